"""Purifiers of 2024 and 2025 against the same written out, for networks that are known."""

import numpy as np
import pytest
import torch
from test_purifiers import STD, Clean, Noise

from puriflow.config import load_config
from puriflow.diffusion.denoisers import SigmaDenoiser, VPDenoiser
from puriflow.errors import UserError
from puriflow.purifiers import aaopt, diffap, freqpure, heterogeneous, osgd
from puriflow.randomness import ImageNoise

DENOISER = VPDenoiser(Noise())
BARS = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))


def given(seed=3):
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()


def noise_in(x, bar):
    return x * (1 - bar) ** 0.5 / (bar * STD**2 + 1 - bar)


def clean(x, bar):
    return (x - (1 - bar) ** 0.5 * noise_in(x, bar)) / bar**0.5


class Draws:
    """Noise of the purifier's own, as numpy arrays of one image."""

    def __init__(self):
        self.noise = ImageNoise(0, "test", [5])

    def __call__(self):
        return self.noise.normal_like(torch.empty(1, 3, 8, 8)).double().numpy()[0]


def purified(purifier, images):
    return (purifier(images, ImageNoise(0, "test", [5])) * 2 - 1).numpy()[0]


def with_low_frequencies(x0, reference, radius, delta):
    """Coefficient by coefficient, on [0, 1]."""
    x0, reference = ((x.clip(-1, 1) + 1) / 2 for x in (x0, reference))
    own, other = np.fft.fft2(x0), np.fft.fft2(reference)
    side = x0.shape[-1]
    for c in range(3):
        for row in range(side):
            for column in range(side):
                v, u = (k - side if k >= side / 2 else k for k in (row, column))
                if u * u + v * v <= radius**2:
                    a, b = own[c, row, column], other[c, row, column]
                    off = np.clip(np.angle(a) - np.angle(b), -delta, delta)
                    if abs(np.angle(a) - np.angle(b)) > np.pi:  # the shorter way round
                        off = np.clip(np.angle(a / b), -delta, delta)
                    own[c, row, column] = abs(b) * np.exp(1j * (np.angle(b) + off))
    return abs(np.fft.ifft2(own).real).clip(0, 1) * 2 - 1


@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_freqpure_keeps_low_frequencies_of_a_one_shot_estimate(delta):
    """Stages of DDPM's steps, with the published levels of CIFAR-10."""
    draw, x = Draws(), given().numpy()[0] * 2 - 1
    for level, steps in ((20, 2), (50, 2)):
        start, bar = x, BARS[level - 1]
        x = bar**0.5 * x + (1 - bar) ** 0.5 * draw()
        timesteps = [level - 1, level // steps - 1]
        for bar, bar_next in zip(BARS[timesteps], [BARS[timesteps[1]], 1.0], strict=True):
            noised = BARS[50] ** 0.5 * start + (1 - BARS[50]) ** 0.5 * draw()
            reference = clean(noised, BARS[50])
            x0 = with_low_frequencies(clean(x, bar), reference, 3, delta)
            variance = (1 - bar / bar_next) * (1 - bar_next) / (1 - bar)
            direction = max(1 - bar_next - variance, 0) ** 0.5 * noise_in(x, bar)
            x = bar_next**0.5 * x0 + direction + variance**0.5 * draw()
    stages = [(20, 2, 1), (50, 2, 1)]
    found = purified(freqpure.build(network=DENOISER, stages=stages, delta=delta), given())
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def test_freqpure_s_default_is_its_published_setting():
    purifier = freqpure.build(network=DENOISER)
    assert [(level, len(steps)) for level, steps in purifier.stages] == [(20, 5)] * 5 + [
        (50, 5)
    ] * 5
    assert (purifier.eta, purifier.radius, purifier.reference_t - 1) == (1, 3, 50)
    one = freqpure.build(network=DENOISER, stages=[(50, 1, 1)])
    expected = purified(one, given())
    np.testing.assert_array_equal(purified(purifier.surrogate(), given()), expected)


def test_osgd_is_three_calls_of_which_one_is_guided():
    draw, x, s = Draws(), given().numpy()[0] * 2 - 1, 6500.0
    bar, bar_before = BARS[48], BARS[47]
    estimate = clean(bar**0.5 * x + (1 - bar) ** 0.5 * draw(), bar).clip(-1, 1)
    noise = draw()
    x_t, estimate_t = (bar**0.5 * image + (1 - bar) ** 0.5 * noise for image in (x, estimate))
    beta = 1 - bar / bar_before
    variance = beta * (1 - bar_before) / (1 - bar)
    mean = (
        bar_before**0.5 * beta / (1 - bar) * clean(x_t, bar).clip(-1, 1)
        + (1 - beta) ** 0.5 * (1 - bar_before) / (1 - bar) * x_t
    )
    grad = 2 * (x_t - estimate_t)
    mean = mean - s * ((1 - bar) / bar) ** 0.5 * variance * grad
    expected = clean(mean + variance**0.5 * draw(), bar).clip(-1, 1)
    calls = []
    hook = DENOISER.network.register_forward_hook(lambda *_: calls.append(None))
    found = purified(osgd.build(network=DENOISER), given())
    hook.remove()
    assert len(calls) == 3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_osgd_s_levels_are_those_of_its_own_schedule():
    """Its network has 4000 cosine steps, of which it takes the 400th, at a scale of 50000."""

    def f(u):
        return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2

    edges = f(np.arange(4001) / 4000)
    betas = 1 - edges[1:] / edges[:-1]
    bars = np.cumprod(1 - betas)
    assert abs(BARS - bars[400]).argmin() == 48
    small = [
        b[i] * (1 - c[i - 1]) / (1 - c[i])
        for b, c, i in ((betas, bars, 400), (np.linspace(1e-4, 2e-2, 1000), BARS, 48))
    ]
    assert 50000 * small[0] / small[1] == pytest.approx(6500, rel=0.01)


def test_diffap_as_published_hands_back_the_given_image():
    """To a hundredth of what the network makes of noise; without the pull it is another image."""
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    found, free = (
        diffap.build(network=DENOISER, guidance_scale=scale)(images, ImageNoise(0, "test", [5]))
        for scale in (1875.0, 0.0)
    )
    assert (found - images).abs().max() < 0.03
    assert (free - images).abs().max() > 0.5
    attacked = diffap.build(network=DENOISER).surrogate()
    assert torch.equal(attacked(images, ImageNoise(0, "test", [5])), free)


def test_diffap_draws_afresh_at_every_step():
    draw, x, scale = Draws(), given().numpy()[0] * 2 - 1, 40.0
    start, bar = x, BARS[99]
    x = bar**0.5 * x + (1 - bar) ** 0.5 * draw()
    for bar, bar_next in ((BARS[99], BARS[49]), (BARS[49], 1.0)):
        x0 = clean(x, bar)
        x0 = x0 - scale * bar**0.5 * 2 * (x0 - start) / x0.size
        sigma = ((1 - bar / bar_next) * (1 - bar_next) / (1 - bar)) ** 0.5
        x = bar_next**0.5 * x0 + sigma * draw()
    purifier = diffap.build(network=DENOISER, stages=[(100, 2, 1)], guidance_scale=scale)
    np.testing.assert_allclose(purified(purifier, given()), x, rtol=1e-4, atol=1e-4)


def test_adbm_s_protocol_is_five_steps_of_ddim_from_level_100(repository):
    track = load_config(repository / "config" / "paper.yaml")
    assert track.part("purifier", "ddim-adbm").options == {
        "stages": [[100, 5, 1]],
        "eta": 0,
        "clip": True,
    }
    attack = track.part("attack", "pgd-eot-linf8-adbm")
    assert (attack.value("n_iter"), attack.value("eot_iter")) == (200, 20)
    assert (attack.value("gradient"), attack.value("random_start")) == ("full", True)


def optimised(directions):
    """The image of Adam at rate 0.1 along directions(x, k), in float64."""
    x = torch.nn.Parameter(given() * 2 - 1)
    adam = torch.optim.Adam([x], lr=0.1)
    for direction in directions:
        x.grad = direction(x.detach()) / x[0].numel()
        adam.step()
    return ((x.detach() + 1) / 2).clamp(0, 1)


@pytest.mark.parametrize("perturbed", [True, False])
@pytest.mark.parametrize("levels", ["random", "falling"])
def test_aaopt_is_adam_along_what_two_networks_expect(levels, perturbed):
    noise, start = ImageNoise(0, "test", [5]), given() * 2 - 1

    def directions():
        for k in range(3):
            sigma = 0.25 * (1 - k / 3)
            if levels == "random":
                sigma = noise.uniform(0.15, 0.35).item()
            eps = noise.normal_like(start)
            other = noise.normal_like(start) if perturbed else None

            def direction(x, sigma=sigma, eps=eps, other=other):
                seen = x + sigma * eps
                along = (seen - STD**2 / (STD**2 + sigma**2) * seen) / sigma - eps
                if other is None:
                    return along
                bar = BARS[int(1000 * sigma)]
                state = bar**0.5 * (start - x) + (1 - bar) ** 0.5 * other
                return along + 0.5 * (noise_in(state, bar) - other)

            yield direction

    purifier = aaopt.build(
        network=SigmaDenoiser(Clean()),
        perturbations=DENOISER if perturbed else None,
        n_iter=3,
        weight=0.5,
        levels=levels,
    )
    found = purifier(given(), ImageNoise(0, "test", [5]))
    torch.testing.assert_close(found, optimised(directions()), rtol=1e-4, atol=1e-4)


def test_aaopt_s_surrogate_is_its_first_iteration():
    purifier = aaopt.build(network=DENOISER, levels="falling", n_iter=4)
    one = purifier.surrogate()(given(), ImageNoise(0, "test", [5]))
    assert (one - given()).abs().max() < 0.051  # a step of Adam's, halved by the scale
    assert (purifier(given(), ImageNoise(0, "test", [5])) - given()).abs().max() > 0.06


class Bright(torch.nn.Module):
    """Looks at bright pixels."""

    def __init__(self):
        super().__init__()
        self.eye = torch.nn.Identity()

    def forward(self, x):
        return self.eye(x).mean((2, 3))


def test_heterogeneous_noise_takes_what_nobody_looks_at_from_the_given_image():
    draw, x = Draws(), given().numpy()[0] * 2 - 1
    energy = (((x + 1) / 2) ** 2).sum(0)
    mask = (energy - energy.min()) / (energy.max() - energy.min()) >= 0.5
    assert 5 < mask.sum() < 59
    start, bar = x, BARS[40]
    x = bar**0.5 * x + (1 - bar) ** 0.5 * draw()
    for i, i_next in ((40, 30), (30, 20), (20, 10), (10, 0)):
        bar, bar_next = BARS[i], BARS[i_next]
        if i_next >= 20:
            others = bar**0.5 * start + (1 - bar) ** 0.5 * draw()
            x = np.where(mask, x, others)
            kept = BARS[i + 3] / bar
            x, bar = kept**0.5 * x + (1 - kept) ** 0.5 * draw(), BARS[i + 3]
        x = bar_next**0.5 * clean(x, bar) + (1 - bar_next) ** 0.5 * noise_in(x, bar)
    options = {"t_large": 40, "t_small": 20, "stride": 10, "extra": 3, "threshold": 0.5}
    purifier = heterogeneous.build(network=DENOISER, classifier=Bright(), blocks=["eye"], **options)
    np.testing.assert_allclose(purified(purifier, given()), x, rtol=1e-4, atol=1e-4)
    assert purifier.surrogate().timesteps == [40, 0]


def test_the_attended_share_of_an_image():
    purifier = heterogeneous.build(
        network=DENOISER, classifier=Bright(), blocks=["eye"], share=0.25
    )
    mask = purifier.mask(given() * 2 - 1)
    energy = (given() ** 2).sum(1, keepdim=True)
    assert mask.sum() == 16
    assert energy[mask].min() >= energy[~mask].max()


def looking(**options):
    given = {"network": DENOISER, "classifier": Bright(), "blocks": ["eye"], **options}
    return heterogeneous.build(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: diffap.DiffAP(DENOISER, stages=[(9, 1, 1)], eta=1, guidance_scale=-1), "is -1"),
        (lambda: freqpure.build(network=DENOISER, reference_t=0), "reference_t is 0"),
        (lambda: aaopt.build(network=DENOISER, sigma=0.1), "must be above 0.1"),
        (lambda: looking(blocks=["ear"]), "no module 'ear'"),
        (lambda: looking(t_small=300), "must be at most t_large, which is 200"),
        (lambda: looking(t_large=995), r"t_large \+ extra is 1005"),
    ],
)
def test_what_is_impossible_is_said(make, message):
    with pytest.raises(UserError, match=message):
        make()
