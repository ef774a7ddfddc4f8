"""DPM-Solvers on Gaussian data, of which the mean and the variance behind a state are known."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from puriflow.diffusion.denoisers import SigmaDenoiser, VPDenoiser
from puriflow.diffusion.dpm_solver import SIGMA_END, VE_SIGMAS, sample, sigma_grid
from puriflow.errors import UserError
from puriflow.purifiers.ode import ODE
from puriflow.purifiers.osd import OSD
from puriflow.purifiers.vesde import VESDE
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import part_of

MEAN, STD = 0.3, 0.25


def denoise(x, *, sigma):
    """D of N(MEAN, STD^2)."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def affine(level, evaluations, **solver):
    """The output as scale x + offset + noise of a variance, all three without chance.

    Everything is linear, so each draw's weight is the output's answer to that draw alone. States
    are (0, 1, 0, 0, ...), the draws of step i are 1 in place i + 2 and 0 elsewhere.
    """
    units = iter(torch.eye(evaluations + 2, dtype=torch.float64)[2:])
    x = torch.eye(evaluations + 2, dtype=torch.float64)[1]
    sigmas = sigma_grid(level, evaluations)
    out = sample(denoise, x, sigmas, lambda x: next(units), lambda sigma, x: None, **solver)
    offset, scale, *weights = out.tolist()
    return scale - offset, offset, sum((weight - offset) ** 2 for weight in weights)


def exact(level, eta):
    """The same of the equation's own solution, from t' to the end."""
    before, after = (STD**2 + sigma**2 for sigma in (VE_SIGMAS[level - 1], SIGMA_END))
    scale = after / before if eta else (after / before) ** 0.5
    return scale, MEAN * (1 - scale), after * (before - after) / before if eta else 0.0


@pytest.mark.parametrize("level", [50, 90, 150])
@pytest.mark.parametrize(("correction", "order"), [(None, 1), ("midpoint", 2), ("heun", 2)])
def test_mean_and_variance_converge_to_the_sde_s(level, correction, order):
    """The weak order: twice the evaluations have a half, or a quarter, of the error."""
    expected = exact(level, 1)
    found = [affine(level, n, eta=1, correction=correction) for n in (32, 64, 128, 256)]
    for scale, offset, _ in found:  # a Gaussian's conditional mean is exact at any step
        assert (scale, offset) == pytest.approx(expected[:2], rel=2e-3)
    errors = [abs(variance / expected[2] - 1) for *_, variance in found]
    orders = [np.log2(more / fewer) for more, fewer in pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.15)
    assert errors[-1] < (0.03 if order == 1 else 1e-3)


@pytest.mark.parametrize("level", [50, 90, 150])
def test_the_ode_is_solved_to_second_order(level):
    expected = exact(level, 0)
    found = [affine(level, n, eta=0, correction="midpoint") for n in (32, 64, 128)]
    assert [variance for *_, variance in found] == [0, 0, 0]
    errors = [abs(scale / expected[0] - 1) for scale, *_ in found]
    assert np.log2(errors[-2] / errors[-1]) == pytest.approx(2, abs=0.15)
    assert found[-1][:2] == pytest.approx(expected[:2], rel=1e-4)


def test_few_evaluations_lack_variance_and_the_second_order_less():
    whole = exact(90, 1)[2]
    kept = [affine(90, 6, eta=1, correction=c)[2] / whole for c in (None, "midpoint", "heun")]
    assert kept[0] < kept[1] < kept[2]
    assert kept[0] < 0.5 < kept[1]


def test_the_grid_is_karras_s_from_t_prime_to_half_a_level():
    sigmas = np.array(sigma_grid(90, 7))
    assert sigmas[[0, -1]] == pytest.approx(
        [VE_SIGMAS[89], (0.5 * (0.001 * 0.1 + 5e-6)) ** 0.5], rel=1e-3
    )
    steps = np.diff(sigmas ** (1 / 7))
    assert steps == pytest.approx(np.full(7, steps[0]))


@pytest.mark.parametrize(("level", "evaluations"), [(90, 5), (90, 60), (10, 8), (10, 10), (1, 1)])
def test_a_network_of_whole_timesteps_is_asked_at_these_once_each(level, evaluations):
    asked = []

    class Spy(torch.nn.Module):
        def forward(self, x, labels):
            asked.append(labels.tolist())
            return torch.zeros_like(x)

    denoiser = VPDenoiser(Spy(), integer_steps=True)
    purifier = VPSDE(denoiser, t=level, solver="sde-dpmpp", evaluations=evaluations)
    purifier(torch.rand(1, 3, 4, 4), ImageNoise(0, "test", [0]))
    labels = [label for (label,) in asked]
    assert len(labels) == evaluations
    assert labels[0] == level - 1
    assert labels == sorted(set(labels), reverse=True)
    assert purifier.sigmas == pytest.approx([*VE_SIGMAS[labels], SIGMA_END], rel=1e-12)


class Clean(torch.nn.Module):
    def forward(self, x, sigma):
        return denoise(x, sigma=sigma.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("solver", ["sde-dpmpp", "sde-dpmpp-2m"])
def test_vp_and_ve_have_one_solver(solver):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    options = {"t": 90, "solver": solver, "evaluations": 6}
    vp, ve = (
        kind(SigmaDenoiser(Clean()), **options)(images, ImageNoise(0, "test", [4, 5]))
        for kind in (VPSDE, VESDE)
    )
    torch.testing.assert_close(vp, ve, rtol=1e-5, atol=1e-6)
    assert not torch.equal(vp, images)


@pytest.mark.parametrize("kind", [VPSDE, VESDE, ODE])
def test_one_evaluation_is_one_shot_denoising_but_for_the_noise_of_the_end(kind):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    denoiser = SigmaDenoiser(Clean())
    one = kind(denoiser, t=90, solver=kind.SOLVERS[-1], evaluations=1)
    found, expected = (p(images, ImageNoise(0, "test", [4])) for p in (one, OSD(denoiser, t=90)))
    left = (found - expected).std().item() * 2  # of [-1, 1]
    assert left == pytest.approx(SIGMA_END, rel=0.05 if kind.eta else 0.9)


def test_steps_are_those_of_the_paper_s_formulas():
    """A second-order step by hand, in the symbols of the VP process: a, s, lambda, h, r."""
    sigmas, z, x = sigma_grid(90, 2), 0.7, 0.4
    a = [1 / (1 + sigma**2) ** 0.5 for sigma in sigmas]
    s = [sigma * a_ for sigma, a_ in zip(sigmas, a, strict=True)]
    lam = [np.log(a_ / s_) for a_, s_ in zip(a, s, strict=True)]
    h = np.diff(lam)
    d0 = denoise(x / a[0], sigma=sigmas[0])
    x1 = s[1] / s[0] * np.exp(-h[0]) * x + a[1] * (1 - np.exp(-2 * h[0])) * d0
    x1 += s[1] * (1 - np.exp(-2 * h[0])) ** 0.5 * z
    d1 = denoise(x1 / a[1], sigma=sigmas[1])
    r = h[0] / h[1]
    x2 = s[2] / s[1] * np.exp(-h[1]) * x1 + s[2] * (1 - np.exp(-2 * h[1])) ** 0.5 * z
    x2 += a[2] * (1 - np.exp(-2 * h[1])) * (d1 + (d1 - d0) / (2 * r))
    found = sample(
        denoise,
        torch.tensor(x / a[0]),
        sigmas,
        lambda x: torch.full_like(x, z),
        lambda sigma, x: None,
        eta=1,
        correction="midpoint",
    )
    assert found.item() == pytest.approx(x2 / a[2], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("vpsde", {"evaluations": 0}, "evaluations is 0, but must be a whole number from 1"),
        ("vpsde", {"evaluations": 11}, "evaluations is 11, but must lie between 1 and t' = 10"),
        ("vpsde", {"solver": "dpmpp-2m"}, "solver .*'dpmpp-2m'.*sde-dpmpp-2m"),
        ("ode", {"solver": "sde-dpmpp-2m"}, "solver .*'sde-dpmpp-2m'.*dpmpp-2m"),
        ("vesde", {"solver": "sde-dpmpp", "correction": "heun"}, "not sde-dpmpp"),
        ("vpsde", {"correction": "midpoint"}, "not euler-maruyama"),
        ("ode", {"correction": "heun"}, "correction"),
        ("vpsde", {"step_size": 5}, "evaluations"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_when_a_track_is_loaded(kind, options, message):
    entry = {"kind": kind, "network": {"kind": "edm"}, "t": 10, **options}
    with pytest.raises(UserError, match=message):
        part_of("purifier", "mine", entry)
