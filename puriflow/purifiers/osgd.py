"""One-step guided diffusion (OSGD, Li et al., Neural Networks 192, 2025): three calls of a network.

The image is denoised at once from level t'. It and that estimate are then diffused by one noise,
the image takes one step of DDPM towards the state of the estimate, and what comes out is denoised
at once, by the label of t' as in its code:

    x_next = mean - s sqrt(1 / alpha_bar - 1) variance grad |x_t - estimate_t|^2 + sigma z.

The square is a sum over pixels, so that an image's guidance is its own, and the two states differ
by sqrt(alpha_bar) times what the images do.
"""

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.options import NonNegative, Rounds, Side, Timestep
from puriflow.purifiers.base import Callback
from puriflow.purifiers.ddpm import DDPM
from puriflow.randomness import ImageNoise

STEPS = 3  # for planning


class OSGD(DDPM):
    """The purifier; see `DDPM`. The output is clamped.

    Args:
        guidance_scale: s.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        t: int,
        guidance_scale: float,
        resize: int | None = None,
        rounds: int = 1,
    ):
        super().__init__(denoiser, t=t, resize=resize, rounds=rounds)
        self.guidance_scale = guidance_scale
        self.last = self.n_steps - 1  # the step at t'

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        return super().forward(images, noise, callback).clamp(0, 1)

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """Three draws: for the first estimate, for both states, for the step."""
        away = x - self.estimate(self.diffuse(x, noise, None)[0])
        x, trace = self.diffuse(x, noise, callback)
        x = self.guided_step(x, away, noise.normal_like(x))
        trace(self.times[self.last], x)
        x = self.estimate(x)
        trace(0.0, x)
        return x

    @recomputed
    def estimate(self, x: Tensor) -> Tensor:
        """The network's x0 of a state, as one at t', clamped to [-1, 1]."""
        eps, _ = self.denoiser.eps_and_variance(x, torch.tensor(self.schedule.sigma[self.last]))
        return self.schedule.predict_x0(x, eps, self.last).clamp(-1, 1)

    @recomputed
    def guided_step(self, x: Tensor, away: Tensor, z: Tensor) -> Tensor:
        """The state before the one at t', of an image that is so far from its estimate."""
        mean, log_variance = self.mean_and_log_variance(x, self.last)
        alpha_bar_t = float(self.schedule.alpha_bar[self.last])
        grad = 2 * alpha_bar_t**0.5 * away
        s = self.guidance_scale * (1 / alpha_bar_t - 1) ** 0.5
        return mean - s * log_variance.exp() * grad + (0.5 * log_variance).exp() * z


def build(
    *,
    network: Denoiser,
    t: Timestep = 49,
    guidance_scale: NonNegative = 6500.0,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> OSGD:
    """OSGD with `network`; the default is its CIFAR-10 setting, brought to 1000 linear steps.

    Its network has 4000 cosine ones, and is asked at the 400th with a scale of 50000: 49 has that
    alpha_bar, and by 6500 the step, whose variance is 7.7 times as large, moves as far.
    """
    return OSGD(network, t=t, guidance_scale=guidance_scale, resize=resize, rounds=rounds)
