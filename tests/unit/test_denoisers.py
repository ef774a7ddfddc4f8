"""Every kind of network gives the same noise, score and denoised image: the Gaussian's, exactly.

For data of N(0, s^2) the VP state x_t has variance v = a s^2 + 1 - a with a = alpha_bar(t), so the
noise expected in it is sqrt(1 - a) x / v and its score -x / v. The VE state at sigma has variance
s^2 + sigma^2: D(x) = s^2 x / (s^2 + sigma^2), and the score is -x / (s^2 + sigma^2).
"""

import pytest
import torch

from puriflow.diffusion.denoisers import SigmaDenoiser, VPDenoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, alpha_bar, time_of_sigma
from puriflow.errors import UserError
from puriflow.networks.edm import EDMPrecond, VPPrecond

STD = 0.6


class Noise(torch.nn.Module):
    """Predicts the noise from its label; `variance` adds the three channels of a learned one."""

    def __init__(self, timesteps, variance=False):
        super().__init__()
        self.timesteps, self.variance = timesteps, variance

    def forward(self, x, labels):
        alpha_bar_t = self.alpha_bar(labels).reshape(-1, 1, 1, 1)
        noise = (1 - alpha_bar_t).sqrt() * x / (alpha_bar_t * STD**2 + 1 - alpha_bar_t)
        return torch.cat([noise, torch.full_like(noise, 7)], 1) if self.variance else noise

    def alpha_bar(self, labels):
        return alpha_bar(labels.double() / self.timesteps)


class DiscreteNoise(Noise):
    """Knows the 1000 levels of the discrete schedule only."""

    def __init__(self):
        super().__init__(1000)

    def alpha_bar(self, labels):
        assert not labels.is_floating_point()
        return torch.from_numpy(DISCRETE_ALPHA_BAR)[labels]


class ScoreItself(Noise):
    """Predicts the score."""

    def forward(self, x, labels):
        alpha_bar_t = self.alpha_bar(labels).reshape(-1, 1, 1, 1)
        return -x / (alpha_bar_t * STD**2 + 1 - alpha_bar_t)


class CleanImage(torch.nn.Module):
    """D itself."""

    def forward(self, x, sigma):
        return STD**2 / (STD**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * x


class EDMInside(torch.nn.Module):
    """The F inside EDM's preconditioning for which D is the Gaussian's."""

    def forward(self, x, labels, augment=None):
        sigma = (4 * labels.double()).exp().reshape(-1, 1, 1, 1)
        total = sigma**2 + 0.25
        x = x * total.sqrt()
        return (CleanImage()(x, sigma) - 0.25 / total * x) * total.sqrt() / (0.5 * sigma)


class VPInside(torch.nn.Module):
    """The F inside the VP preconditioning for which D is the Gaussian's."""

    def forward(self, x, labels, augment=None):
        alpha_bar_t = alpha_bar(labels.double() / 999).reshape(-1, 1, 1, 1)
        sigma = ((1 - alpha_bar_t) / alpha_bar_t).sqrt()
        x = x * (1 + sigma**2).sqrt()
        return (x - CleanImage()(x, sigma)) / sigma


DENOISERS = {
    "noise, 1000 t": VPDenoiser(Noise(1000)),
    "noise and variance": VPDenoiser(Noise(1000, variance=True)),
    "noise, 999 t": VPDenoiser(Noise(999), timesteps=999),
    "score": VPDenoiser(ScoreItself(1000), predicts="score"),
    "denoiser": SigmaDenoiser(CleanImage()),
    "EDM": SigmaDenoiser(EDMPrecond(EDMInside())),
    "EDM's VP": SigmaDenoiser(VPPrecond(VPInside())),
}


@pytest.fixture
def x():
    return torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("t", [[0.01], [0.09], [0.3], [0.01, 0.15, 0.9]])
def test_noise_and_score_at_vp_times(name, t, x):
    t = torch.tensor(t, dtype=torch.float64).squeeze()
    alpha_bar_t = alpha_bar(t).reshape(-1, 1, 1, 1)
    variance = alpha_bar_t * STD**2 + 1 - alpha_bar_t
    denoiser = DENOISERS[name]
    close = {"rtol": 1e-5, "atol": 1e-6}  # labels are float32, as networks are told them
    torch.testing.assert_close(denoiser.eps(x, t), (1 - alpha_bar_t).sqrt() * x / variance, **close)
    torch.testing.assert_close(denoiser.score(x, t), -x / variance, **close)
    assert torch.equal(denoiser(x, t), denoiser.eps(x, t))


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("sigma", [[0.02], [0.25], [1.0], [0.05, 0.5, 5.0]])
def test_denoised_image_and_score_at_ve_sigmas(name, sigma, x):
    sigma = torch.tensor(sigma, dtype=torch.float64).squeeze()
    variance = STD**2 + sigma.reshape(-1, 1, 1, 1) ** 2
    denoiser = DENOISERS[name]
    clean = STD**2 / variance * x
    torch.testing.assert_close(denoiser.denoise(x, sigma), clean, rtol=1e-5, atol=1e-6)
    # the score divides a small difference by sigma^2
    torch.testing.assert_close(denoiser.score_ve(x, sigma), -x / variance, rtol=1e-3, atol=1e-4)


def test_a_discrete_network_is_asked_at_its_nearest_level(x):
    denoiser = VPDenoiser(DiscreteNoise(), integer_steps=True)
    for step in (0, 9, 89, 500):
        sigma = torch.tensor((1 / DISCRETE_ALPHA_BAR[step] - 1) ** 0.5)
        expected = STD**2 / (STD**2 + sigma**2) * x
        torch.testing.assert_close(denoiser.denoise(x, sigma), expected, rtol=1e-9, atol=1e-12)
    between = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    expected = STD**2 / (STD**2 + between.reshape(-1, 1, 1, 1) ** 2) * x
    torch.testing.assert_close(denoiser.denoise(x, between), expected, rtol=0.02, atol=1e-3)


def test_a_discrete_network_is_told_diffpure_s_timestep_at_vp_times(x):
    # trunc(1000 t) is one level above the discrete schedule's own, so it is near and not equal
    denoiser = VPDenoiser(DiscreteNoise(), integer_steps=True)
    for t in (0.05, 0.15, 0.5):
        t = torch.tensor(t, dtype=torch.float64)
        alpha_bar_t = alpha_bar(t)
        variance = alpha_bar_t * STD**2 + 1 - alpha_bar_t
        torch.testing.assert_close(denoiser.score(x, t), -x / variance, rtol=0.02, atol=1e-3)


def test_plain_numbers_are_levels_too(x):
    for denoiser in DENOISERS.values():
        whole = torch.tensor(1.0, dtype=torch.float64)
        assert torch.equal(denoiser.denoise(x, 1), denoiser.denoise(x, whole))


def test_time_and_sigma_are_two_names_of_one_level():
    t = torch.linspace(0.001, 1, 500, dtype=torch.float64)
    alpha_bar_t = alpha_bar(t)
    torch.testing.assert_close(time_of_sigma(((1 - alpha_bar_t) / alpha_bar_t).sqrt()), t)


def test_gradients_pass_through_every_kind(x):
    for denoiser in DENOISERS.values():
        y = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(denoiser.denoise(y, torch.tensor(0.5)).sum(), y)
        expected = STD**2 / (STD**2 + 0.25)
        torch.testing.assert_close(gradient, torch.full_like(x, expected), rtol=1e-4, atol=1e-5)


def test_an_unknown_prediction_is_named():
    with pytest.raises(UserError, match="did you mean 'score'"):
        VPDenoiser(Noise(1000), predicts="scor")
