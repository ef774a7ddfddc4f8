"""Every purifier on Gaussian data, where the right score is known."""

from functools import partial

import numpy as np
import pytest
import torch
from tiny_parts import tiny_purifier

from puriflow.config import load_config
from puriflow.diffusion.denoisers import SigmaDenoiser, VPDenoiser
from puriflow.diffusion.vp import alpha_bar
from puriflow.errors import UserError
from puriflow.purifiers.ddim import DDIM, stage_timesteps
from puriflow.purifiers.ddpm import DDPM
from puriflow.purifiers.gdmp import GDMP
from puriflow.purifiers.gdmp import build as build_gdmp
from puriflow.purifiers.ldsde import LDSDE
from puriflow.purifiers.ode import ODE
from puriflow.purifiers.osd import OSD
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.purifiers.vesde import VESDE
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import kinds

STD = 0.5


class Noise(torch.nn.Module):
    """The noise that is right for data of N(0, STD^2)."""

    def forward(self, x, labels):
        alpha_bar_t = alpha_bar(labels / 1000).reshape(-1, 1, 1, 1)
        return x * (1 - alpha_bar_t).sqrt() / (alpha_bar_t * STD**2 + 1 - alpha_bar_t)


class Clean(torch.nn.Module):
    """D for the same data."""

    def forward(self, x, sigma):
        return STD**2 / (STD**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * x


NETWORKS = {"noise": VPDenoiser(Noise()), "D": SigmaDenoiser(Clean())}
SAMPLERS = {
    "vpsde": lambda d: VPSDE(d, t=150),
    "ode": lambda d: ODE(d, t=150),
    "ddpm": lambda d: DDPM(d, t=150, clip=False),
    "ddpm, respaced": lambda d: DDPM(d, t=150, respacing=250, clip=False),
    "vesde": lambda d: VESDE(d, t=150),
    "vpsde, dpm-solver": lambda d: VPSDE(d, t=150, solver="sde-dpmpp-2m", evaluations=30),
    "vesde, dpm-solver": lambda d: VESDE(d, t=150, solver="sde-dpmpp", evaluations=100),
    "ode, dpm-solver": lambda d: ODE(d, t=150, solver="dpmpp-2m", evaluations=8),
    "ddim": lambda d: DDIM(d, stages=[(150, 150, 1)], eta=0.0),
    "staged ddpm": lambda d: DDIM(d, stages=[(50, 25, 2), (150, 50, 1)], eta=1.0),
    "two rounds": lambda d: VPSDE(d, t=75, rounds=2),
    "random level": lambda d: VPSDE(d, t=150, t_delta=15),
}
PURIFIERS = SAMPLERS | {
    "gdmp": lambda d: gdmp(d, guidance_scale=600.0),
    "osd": lambda d: OSD(d, t=150),
    "ldsde": lambda d: LDSDE(d, t=90, sigma2=1e-3, lambda_ld=1e-2, eta=5.0),
    "scoreopt-o": lambda d: scoreopt(d, method="O"),
    "scoreopt-n": lambda d: scoreopt(d, method="N"),
}


EVERY_KIND = {f"{kind}, tiny": partial(tiny_purifier, kind) for kind in kinds("purifiers")}


def gdmp(denoiser, **options):
    published = {"t": 36, "perturbation": 8 / 255, "diffused": True, "shared": False, "rounds": 1}
    return GDMP(denoiser, **(published | {"clip": False} | options))


def by_hand_gdmp(given, noise, *, timesteps, rounds, scale, ptb, diffused):
    """GDMP of one image on [-1, 1] for `Noise`, in float64 and with the draws of `noise`.

    Its MSE is a mean over the image; its variance the fixed large one.
    """

    def draw():
        return noise.normal_like(given.float()).double()

    bars = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[timesteps]
    before = np.append(1, bars[:-1])
    betas = 1 - bars / before
    variances = np.append(betas[1] * (1 - before[1]) / (1 - bars[1]), betas[1:])
    x = given
    for _ in range(rounds):
        x = bars[-1] ** 0.5 * x + (1 - bars[-1]) ** 0.5 * draw()
        for i in range(len(timesteps))[::-1]:
            bar, bar_before, beta = bars[i], before[i], betas[i]
            towards = bar**0.5 * given + (1 - bar) ** 0.5 * draw() if diffused else given
            eps = x * (1 - bar) ** 0.5 / (bar * STD**2 + 1 - bar)
            x0 = ((x - (1 - bar) ** 0.5 * eps) / bar**0.5).clamp(-1, 1)
            mean = (
                bar_before**0.5 * beta / (1 - bar) * x0
                + (1 - beta) ** 0.5 * (1 - bar_before) / (1 - bar) * x
            )
            gradient = -2 * (x - towards) / x.numel()
            c = (1 - bar) ** 0.5 / (ptb * 2 / 255 / 3 / scale * bar**0.5)
            x = (
                mean
                + variances[i] * c * gradient
                + (variances[i] ** 0.5 * draw() if i else 0 * draw())
            )
    return x


GDMP_ROLES = {
    "gdmp": {"scale": 60000 / 100, "ptb": 8, "diffused": True, "rounds": 4},
    "gdmp-imagenet": {"scale": 1000 / 60, "ptb": 4, "diffused": False, "rounds": 1},
}


@pytest.mark.parametrize("name", GDMP_ROLES)
def test_gdmp_s_roles_are_its_published_settings(name, repository):
    """The whole purifier against the same written out, with the numbers of its configurations."""
    options = load_config(repository / "config" / "paper.yaml").part("purifier", name).options
    purifier = build_gdmp(**(options | {"network": NETWORKS["noise"], "resize": None}))
    spaced = [round(i * 999 / 249) for i in range(250)]
    timesteps = spaced[:45] if name == "gdmp-imagenet" else list(range(36))
    assert purifier.schedule.timesteps[: purifier.n_steps].tolist() == timesteps
    assert timesteps[-1] == {"gdmp": 35, "gdmp-imagenet": 177}[name]
    x = 0.4 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)).clamp(-2, 2)
    found = purifier((x + 1) / 2, ImageNoise(0, "test", [5])) * 2 - 1
    draws = ImageNoise(0, "test", [5])
    expected = by_hand_gdmp(x.double(), draws, timesteps=timesteps, **GDMP_ROLES[name])
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)


def test_langevin_dynamics_are_held_at_the_given_image_in_every_round():
    purifier = LDSDE(NETWORKS["noise"], t=30, sigma2=1e-3, lambda_ld=1e-2, eta=5.0, rounds=3)
    given = 0.4 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    noise, x = ImageNoise(0, "test", [5]), given.double()
    for _ in range(3):
        for ds in (0.01, 0.01, 0.01 - 1e-5):
            alpha_bar_t = alpha_bar(torch.tensor(0.01, dtype=torch.float64))
            score = -x / (alpha_bar_t * STD**2 + 1 - alpha_bar_t)
            drift = -0.5 * 1e-2 * (-score + (x - given) / 1e-3)
            x = x + drift * ds + (1e-2 * ds) ** 0.5 * 5 * noise.normal_like(given).double()
    found = purifier((given + 1) / 2, ImageNoise(0, "test", [5])) * 2 - 1
    torch.testing.assert_close(found, x.float(), rtol=1e-4, atol=1e-5)


def test_gdmp_is_pulled_along_the_gradient_of_the_error():
    """One step, by the formula and autograd."""
    purifier = gdmp(NETWORKS["noise"], guidance_scale=600.0)
    x, reference = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    error = ((x - reference) ** 2).flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(-error, x)
    mean, log_variance = purifier.mean_and_log_variance(x, 20)
    alpha_bar_t = purifier.schedule.alpha_bar[20]
    m = (2 / 3) * (8 / 255) / 600
    c_t = (1 - alpha_bar_t) ** 0.5 / (m * alpha_bar_t**0.5)
    pulled = mean + log_variance.exp() * c_t * gradient
    zero = torch.zeros_like(x)
    torch.testing.assert_close(purifier.guided_step(x, zero, reference, i=20), pulled)
    assert (pulled - mean).abs().max() > 1e-3


def test_gdmp_as_published_is_weaker_for_more_batch_mates():
    purifier = gdmp(NETWORKS["noise"], guidance_scale=600.0, shared=True)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    together = purifier(images, ImageNoise(0, "test", [4, 5]))
    alone = purifier(images[1:], ImageNoise(0, "test", [5]))
    assert not torch.allclose(together[1:], alone, atol=1e-4)
    # the whole batch at twice the scale is each image for itself
    double = gdmp(NETWORKS["noise"], guidance_scale=1200.0, shared=True)
    own = gdmp(NETWORKS["noise"], guidance_scale=600.0)
    noise = [ImageNoise(0, "test", [4, 5]) for _ in range(2)]
    torch.testing.assert_close(double(images, noise[0]), own(images, noise[1]))


def scoreopt(denoiser, *, method="O", shared=False, **changes):
    options = {"sigma": 0.3, "n_iter": 3, "learning_rate": 0.05, "resize": None}
    return ScoreOpt(denoiser, method=method, shared=shared, **{**options, **changes})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_keeps_the_distribution(name, network):
    purifier = SAMPLERS[name](NETWORKS[network])
    x = STD * torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    purified = purifier((x + 1) / 2, ImageNoise(0, "test", [0])) * 2 - 1
    assert purified.std().item() == pytest.approx(STD, rel=0.04)
    assert abs(purified.mean().item()) < 0.02
    # another sample, near the first: noise was really added and removed
    assert 0.05 < (purified - x).std().item() < 1.2 * STD


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_callback_sees_both_processes_at_the_same_times(name, network):
    purifier = SAMPLERS[name](NETWORKS[network])
    x = STD * torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    seen, noise = [], ImageNoise(0, "test", [0])
    purified = purifier((x + 1) / 2, noise, lambda *step: seen.append(step))
    assert torch.equal(purified, purifier((x + 1) / 2, ImageNoise(0, "test", [0])))
    assert torch.equal(purified, (seen[-1][2] + 1) / 2)
    # each diffusion comes down to about 0; the first one's forward states are those of its draw
    times = [t for t, *_ in seen]
    ups = [i for i in range(1, len(times)) if times[i] > times[i - 1]]
    assert len(ups) == {"two rounds": 1, "staged ddpm": 2}.get(name, 0)
    end = 6e-4 if getattr(purifier, "sigmas", None) else 2e-5
    assert all(times[i - 1] < end for i in [*ups, len(times)])
    noise = ImageNoise(0, "test", [0])
    if purifier.t_delta:
        noise.integers(-1, 1)
    eps = noise.normal_like(x)
    for t, forward, _ in seen[: ups[0] if ups else None]:
        alpha_bar_t = alpha_bar(torch.tensor(t, dtype=torch.float64))
        expected = alpha_bar_t.sqrt().float() * x + (1 - alpha_bar_t).sqrt().float() * eps
        torch.testing.assert_close(forward, expected, rtol=1e-5, atol=1e-6)
    for t, forward, back in seen:  # both have the spread of their time: no scale is another one
        alpha_bar_t = alpha_bar(torch.tensor(t, dtype=torch.float64))
        std = (alpha_bar_t * STD**2 + 1 - alpha_bar_t).sqrt().item()
        assert forward.std().item() == pytest.approx(std, rel=0.04)
        assert back.std().item() == pytest.approx(std, rel=0.04)


def test_langevin_dynamics_have_no_way_back_for_a_callback():
    seen = []
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    PURIFIERS["ldsde"](NETWORKS["noise"])(images, ImageNoise(0, "test", [0]), seen.append)
    assert not seen


@pytest.mark.parametrize("name", PURIFIERS | EVERY_KIND)
def test_an_image_does_not_depend_on_its_batch(name):
    purifier = (PURIFIERS | EVERY_KIND)[name](NETWORKS["noise"])
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    together = purifier(images, ImageNoise(0, "test", [4, 5, 6]))
    alone = purifier(images[1:2], ImageNoise(0, "test", [5]))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-6)
    again = purifier(images, ImageNoise(0, "test", [4, 5, 6]))
    assert torch.equal(together, again)


def test_scoreopt_as_published_depends_on_the_batch():
    purifier = scoreopt(NETWORKS["noise"], shared=True)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    together = purifier(images, ImageNoise(0, "test", [4, 5]))
    alone = purifier(images[1:], ImageNoise(0, "test", [5]))
    assert not torch.allclose(together[1:], alone, atol=1e-4)


def test_one_shot_denoising_is_tweedie_s_formula():
    noise = ImageNoise(0, "test", [0])
    z = ImageNoise(0, "test", [0]).normal_like(torch.empty(1, 3, 8, 8))
    x = 0.2 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha_bar_t = alpha_bar(torch.tensor(0.1, dtype=torch.float64))
    x_t = alpha_bar_t.sqrt() * x + (1 - alpha_bar_t).sqrt() * z
    score = -x_t / (alpha_bar_t * STD**2 + 1 - alpha_bar_t)
    expected = (x_t + (1 - alpha_bar_t) * score) / alpha_bar_t.sqrt()
    got = OSD(NETWORKS["D"], t=100)((x + 1) / 2, noise) * 2 - 1
    # the discrete level of t' = 100 is 0.897, the continuous one 0.896
    torch.testing.assert_close(got, expected.float(), rtol=0.02, atol=0.005)


def test_timesteps_of_a_stage():
    assert stage_timesteps(50, 5) == [9, 19, 29, 39, 49]
    assert stage_timesteps(3, 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: VPSDE(d, t=0), "must lie between 1 and 1000"),
        (lambda d: VPSDE(d, t=10, t_delta=15), r"10 \+- 15, but must lie"),
        (lambda d: VPSDE(d, t=10, rounds=0), "rounds is 0"),
        (lambda d: ODE(d, t=10, evaluations=0), "evaluations is 0, but must lie .* t' = 10"),
        (lambda d: VESDE(d, t=10, evaluations=11), "evaluations is 11, but must lie .* t' = 10"),
        (lambda d: ODE(d, t=10, solver="sde-dpmpp"), "did you mean 'dpmpp-2m'"),
        (lambda d: VPSDE(d, t=10, correction="heun"), "not euler-maruyama"),
        (lambda d: VPSDE(d, t=10, solver="sde-dpmpp", correction="heun"), "not sde-dpmpp"),
        (lambda d: gdmp(d, guidance_scale=-1.0), "guidance_scale is -1"),
        (lambda d: DDPM(d, t=10, respacing=0), "respacing is 0"),
        (lambda d: DDIM(d, stages=[], eta=1.0), "at least one stage"),
        (lambda d: DDIM(d, stages=[(10, 20, 1)], eta=1.0), "1 to 10 steps, not 20"),
        (lambda d: scoreopt(d, method="o"), "did you mean 'O'|known are N, O"),
        (lambda d: scoreopt(d, sigma=0.05), "must be above 0.1"),
    ],
)
def test_what_is_impossible_is_said(make, message):
    with pytest.raises(UserError, match=message):
        make(NETWORKS["noise"])
