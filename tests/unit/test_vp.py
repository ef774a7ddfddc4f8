import math

import numpy as np
import pytest
import torch

from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import (
    DISCRETE_ALPHA_BAR,
    alpha_bar,
    beta,
    diffuse,
    diffuse_to_time,
    time_grid,
)
from puriflow.errors import UserError
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise


@pytest.mark.parametrize(
    ("level", "published"),
    [(10, 0.998105), (90, 0.914996), (100, 0.897018), (130, 0.835112), (150, 0.788321)],
)
def test_the_discrete_schedule_is_the_published_one(level, published):
    assert DISCRETE_ALPHA_BAR[level - 1] == pytest.approx(published, abs=1e-6)


def test_the_continuous_schedule_differs_slightly_from_the_discrete_one():
    assert alpha_bar(torch.tensor(0.1, dtype=torch.float64)).item() == pytest.approx(
        0.896282, abs=1e-6
    )


def test_alpha_bar_is_the_exponential_of_the_integral_of_beta():
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(beta(t), t)
    torch.testing.assert_close(alpha_bar(t[1:]), torch.exp(-integral), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("level", [1, 10, 90, 100, 130, 150, 250])
def test_diffpure_s_step_takes_exactly_t_prime_evaluations(level):
    grid = time_grid(level, level)
    assert len(grid) == level + 1
    assert grid[-1].item() == pytest.approx(1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("level", "first"),
    [
        (10, [9, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (90, [89, 88, 88, 87]),
        (100, [100, 99, 98]),
        (150, [149, 148, 148]),
    ],
)
def test_labels_truncate_in_float32_as_published(level, first):
    denoiser = VPDenoiser(torch.nn.Identity(), integer_steps=True)
    labels = [denoiser.label(t).item() for t in time_grid(level, level)[:-1]]
    assert labels[: len(first)] == first
    assert min(labels) >= 1


def test_fewer_evaluations_are_evenly_spaced():
    grid = time_grid(90, 15).double()
    assert len(grid) == 16
    torch.testing.assert_close(
        grid[:-1] - grid[1:], torch.full((15,), 0.006).double(), atol=2e-5, rtol=0
    )


class Gaussian(torch.nn.Module):
    """The noise that is right for data of N(0, std^2): the exact score is known."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x, labels):
        alpha_bar_t = alpha_bar(labels / 1000).reshape(-1, 1, 1, 1)
        return x * (1 - alpha_bar_t).sqrt() / (alpha_bar_t * self.std**2 + 1 - alpha_bar_t)


@pytest.mark.parametrize(("evaluations", "tolerance"), [(150, 0.01), (30, 0.03)])
def test_the_reverse_sde_keeps_a_gaussian_distribution(evaluations, tolerance):
    std = 0.5
    denoiser = VPDenoiser(Gaussian(std), integer_steps=False)
    purifier = VPSDE(denoiser, t=150, evaluations=evaluations, resize=None)
    generator = torch.Generator().manual_seed(0)
    x = std * torch.randn(1, 3, 128, 128, generator=generator)
    purified = purifier((x + 1) / 2, ImageNoise(0, "test", [0])) * 2 - 1
    assert purified.std().item() == pytest.approx(std, rel=tolerance)
    assert abs(purified.mean().item()) < 0.02
    # and it is another sample of it, not the input: the noise was really added and removed
    assert 0.05 < (purified - x).std().item() < 1.2 * std


def test_purified_images_come_nearer_to_the_clean_ones_than_noisy_ones_were():
    denoiser = VPDenoiser(Gaussian(0.05), integer_steps=False)
    clean = torch.full((1, 3, 32, 32), 0.5)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    purified = VPSDE(denoiser, t=100, resize=None)(noisy, ImageNoise(0, "test", [0]))
    assert (purified - clean).square().mean() < 0.25 * (noisy - clean).square().mean()


def test_diffuse_is_the_closed_form():
    x0, eps = torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2.0)
    for alpha_bar_t, x in (
        (DISCRETE_ALPHA_BAR[89], diffuse(x0, 90, eps)),
        (math.exp(-0.1 * 0.09 - 9.95 * 0.09**2), diffuse_to_time(x0, 0.09, eps)),
    ):
        expected = np.sqrt(alpha_bar_t) + 2 * np.sqrt(1 - alpha_bar_t)
        torch.testing.assert_close(x, torch.full_like(x, expected))


def test_each_image_may_have_a_level_of_its_own():
    x0, eps = torch.ones(2, 3, 2, 2), torch.full((2, 3, 2, 2), 2.0)
    both = diffuse(x0, torch.tensor([90, 10]), eps)
    assert torch.equal(
        both, torch.cat([diffuse(x0[:1], 90, eps[:1]), diffuse(x0[1:], 10, eps[1:])])
    )


def test_resizing_goes_to_the_networks_size_and_back():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, labels):
            seen.append(tuple(x.shape[-2:]))
            return torch.zeros_like(x)

    purifier = VPSDE(VPDenoiser(Spy(), integer_steps=True), t=2, resize=20)
    out = purifier(torch.rand(2, 3, 16, 16), ImageNoise(0, "test", [0, 1]))
    assert out.shape == (2, 3, 16, 16)
    assert set(seen) == {(20, 20)}


@pytest.mark.parametrize(("t", "evaluations"), [(0, 1), (1001, 1), (10, 0), (10, 11)])
def test_impossible_levels_and_evaluations_are_refused(t, evaluations):
    with pytest.raises(UserError, match="must"):
        VPSDE(VPDenoiser(torch.nn.Identity(), integer_steps=True), t=t, evaluations=evaluations)
