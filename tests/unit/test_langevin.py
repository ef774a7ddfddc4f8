"""Langevin dynamics of an energy: what they sample, what their gradient is, what is refused."""

import pytest
import torch
from torch import nn

from puriflow.config import load_config, validated
from puriflow.errors import UserError
from puriflow.purifiers.langevin import Energy, Langevin, build
from puriflow.randomness import ImageNoise
from puriflow.training.energies import EnergyRecipe


class Gaussian(nn.Module):
    """The energy of a normal distribution around a mean on [-1, 1]."""

    def __init__(self, mean=0.3, strength=1.0):
        super().__init__()
        self.mean, self.strength = mean, strength

    def forward(self, x):
        return self.strength * (x - self.mean).square().flatten(1).sum(1) / 2


def images(count=2, side=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator, dtype=dtype)


def noise(count=2):
    return ImageNoise(0, "test", range(count))


def test_a_step_is_the_published_one():
    x, z = images() * 2 - 1, noise().normal_like(images())
    purified = Langevin(Gaussian(), n_iter=1, step_size=0.2, noise=0.05)(images(), noise())
    torch.testing.assert_close(purified * 2 - 1, x - 0.2 * (x - 0.3) + 0.05 * z)


def test_long_chains_sample_the_density_that_is_said():
    """exp(-2 step_size U / noise^2): a normal distribution of variance noise^2 / (2 step_size)."""
    many = torch.full((1, 3, 64, 64), 0.9)
    x = Langevin(Gaussian(), n_iter=200, step_size=0.05, noise=0.1)(many, noise(1)) * 2 - 1
    assert x.mean().item() == pytest.approx(0.3, abs=0.01)
    assert x.std().item() == pytest.approx(0.1 / (2 * 0.05) ** 0.5, rel=0.03)


@pytest.mark.parametrize("activation", ["leaky", "smooth"])
def test_the_published_energy_has_no_second_derivative(activation):
    """So that BPDA's identity is its exact gradient, and one of a smooth energy is not."""
    torch.manual_seed(0)
    energy = Energy(n_f=4, image_size=8, activation=activation).double().requires_grad_(False)
    purifier = Langevin(energy, n_iter=3, step_size=1.0, noise=0.01)
    x = images(dtype=torch.float64).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    (gradient,) = torch.autograd.grad((purifier(x, noise()) * weights).sum(), x)
    assert torch.allclose(gradient, weights) == (activation == "leaky")


@pytest.mark.parametrize("strength", [100.0, float("nan")])
def test_a_chain_that_diverges_is_refused_with_its_step(strength):
    purifier = Langevin(Gaussian(strength=strength), n_iter=9, step_size=1.0, noise=0.01)
    step = 2 if strength == 100 else 1  # 0.1 from the mean, and 99 times as far each time
    with pytest.raises(
        UserError, match=f"diverged in step {step} of 9 .*smaller step_size"
    ) as said:
        purifier(torch.full((2, 3, 8, 8), 0.7), noise())
    assert "\n" not in str(said.value)


def test_images_of_another_size_are_refused():
    purifier = build(weights=None, n_f=2, n_iter=2)
    with pytest.raises(UserError, match="takes 32x32 images, but these are 8x8"):
        purifier(images(), noise())
    with pytest.raises(UserError, match="image_size is 12, but must be a multiple of 8"):
        build(weights=None, image_size=12)


def test_the_mini_track_s_chains_sample_what_its_energy_was_trained_on(repository):
    track = load_config(repository / "config" / "config.yaml")
    sigma = validated(EnergyRecipe, track.training.recipe("purifiers", "ebm"), "ebm").sigma
    part = track.part("purifier", "ebm")
    assert part.value("step_size") == pytest.approx(part.value("noise") ** 2 / (2 * sigma**2))


def test_the_published_energy_has_its_size():
    assert sum(p.numel() for p in build(weights=None).network.parameters()) == 693_569
