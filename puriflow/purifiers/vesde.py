"""Purification by the VE-SDE (Song et al. 2021; paper, Table 8, right).

No VE network of ImageNet is public. The same network is therefore asked at VE states: one of sigma
is 1 / sqrt(alpha_bar) times a VP state, with sigma^2 = (1 - alpha_bar) / alpha_bar. Level t' is
that of the VP-SDE, so both diffuse to the same ratio of signal to noise, and the variance that a
step removes is the difference of sigma^2.
"""

from functools import partial

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, alpha_bar
from puriflow.errors import UserError
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.purifiers.vpsde import time_grid
from puriflow.randomness import ImageNoise


class VESDE(Diffused):
    """The purifier by Euler-Maruyama; see `Diffused`, and `time_grid` for `step`."""

    def __init__(self, denoiser: Denoiser, *, step: int = 1, **options: int | None):
        super().__init__(denoiser, **options)
        if step < 1:
            raise UserError(f"step is {step} thousandths, but must be 1 or more")
        self.register_buffer("times", time_grid(self.t, step), persistent=False)
        kept = alpha_bar(self.times.double())
        self.register_buffer("sigmas", ((1 - kept) / kept).sqrt(), persistent=False)

    def diffuse(self, x: Tensor, level: int | Tensor, e: Tensor) -> Tensor:
        """Add noise of the level's sigma."""
        kept = torch.as_tensor(DISCRETE_ALPHA_BAR[torch.as_tensor(level).cpu().numpy() - 1])
        sigma = ((1 - kept) / kept).sqrt().reshape(-1, 1, 1, 1)
        return x + sigma.to(x.device, x.dtype) * e

    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """See `Diffused.reverse`; one draw for every step."""
        steps = zip(self.sigmas[:-1], self.sigmas[1:], self.times[1:], strict=True)
        for sigma, after, t in steps:
            removed = (sigma**2 - after**2).to(x.dtype)
            mean = self.stepwise(partial(self._mean, sigma=sigma, removed=removed), x)
            x = mean + removed.sqrt() * noise.normal_like(x)
            yield float(t), x / (1 + float(after) ** 2) ** 0.5

    def _mean(self, x: Tensor, sigma: Tensor, removed: Tensor) -> Tensor:
        return x + removed * self.denoiser.score_ve(x, sigma)


def build(
    *,
    network: Denoiser,
    t: int,
    step: int = 1,
    resize: int | None = None,
    rounds: int = 1,
    t_delta: int = 0,
) -> VESDE:
    """VE-SDE purification to level `t` with the score of `network` (an entry of `networks`)."""
    return VESDE(network, t=t, step=step, resize=resize, rounds=rounds, t_delta=t_delta)
