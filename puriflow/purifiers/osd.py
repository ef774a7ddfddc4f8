"""One-shot denoising (OSD; paper, Eq. 11; Carlini et al. 2023): diffuse, and estimate x0 at once.

Tweedie's formula with one call of the network: x0 = (x_t + (1 - alpha_bar) score) /
sqrt(alpha_bar). (The paper's Eq. 9 leaves out the scaling.)
"""

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.randomness import ImageNoise


class OSD(Diffused):
    """The purifier; see `Diffused`. x0 is clamped to [-1, 1]."""

    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """See `Diffused.reverse`; one step, which draws nothing."""
        yield 0.0, self.stepwise(self._step, x)

    def _step(self, x: Tensor) -> Tensor:
        kept = float(DISCRETE_ALPHA_BAR[self.t - 1])
        sigma = torch.tensor((1 / kept - 1) ** 0.5)
        return self.denoiser.denoise(x / kept**0.5, sigma).clamp(-1, 1)


def build(
    *, network: Denoiser, t: int, resize: int | None = None, rounds: int = 1, t_delta: int = 0
) -> OSD:
    """One-shot denoising at level `t` with `network` (an entry of `networks`)."""
    return OSD(network, t=t, resize=resize, rounds=rounds, t_delta=t_delta)
