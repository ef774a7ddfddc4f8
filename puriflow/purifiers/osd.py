"""One-shot denoising (OSD; paper, Eq. 11; Carlini et al. 2023): diffuse, and estimate x0 at once.

Tweedie's formula with one call of the network. (The paper's Eq. 9 leaves out the scaling.)
"""

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR
from puriflow.options import Rounds, Side, Timestep, TimestepSpread
from puriflow.purifiers.base import Callback, DiffusionPurifier
from puriflow.randomness import ImageNoise

STEPS = 1  # for planning


class OSD(DiffusionPurifier):
    """The purifier; see `DiffusionPurifier`. x0 is clamped to [-1, 1]."""

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        x, trace = self.diffuse(x, noise, callback)
        x = self.tweedie(x)
        trace(0.0, x)
        return x

    @recomputed
    def tweedie(self, x: Tensor) -> Tensor:
        """Eq. 11, x0 = (x + (1 - alpha_bar) score) / sqrt(alpha_bar): D at the VE state of x."""
        alpha_bar_t = float(DISCRETE_ALPHA_BAR[self.t - 1])
        sigma = torch.tensor((1 / alpha_bar_t - 1) ** 0.5, dtype=torch.float32)
        return self.denoiser.denoise(x / alpha_bar_t**0.5, sigma).clamp(-1, 1)


def build(
    *,
    network: Denoiser,
    t: Timestep,
    resize: Side | None = None,
    rounds: Rounds = 1,
    t_delta: TimestepSpread = 0,
) -> OSD:
    """One-shot denoising at level `t` with `network`."""
    return OSD(network, t=t, resize=resize, rounds=rounds, t_delta=t_delta)
