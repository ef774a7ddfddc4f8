"""Purification by the VE-SDE (Song et al. 2021; paper, Table 8, right).

No VE network of ImageNet is public. The same network is therefore asked at VE states: one of sigma
is 1 / sqrt(alpha_bar) times a VP state, with sigma^2 = (1 - alpha_bar) / alpha_bar. Level t' is
that of the VP-SDE, so both diffuse to the same ratio of signal to noise, and the variance that a
step removes is the difference of sigma^2.
"""

from itertools import pairwise
from typing import get_args

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import alpha_bar, discrete_alpha_bar
from puriflow.options import Correction, Rounds, SDESolver, Side, Timestep, TimestepSpread
from puriflow.purifiers.base import SolverPurifier, Trace, vp_state
from puriflow.randomness import ImageNoise


class VESDE(SolverPurifier):
    """The purifier; see `SolverPurifier`. Euler-Maruyama's is the reverse diffusion sampler."""

    SOLVERS = get_args(SDESolver)
    eta = 1

    def add_noise(self, x0: Tensor, level: int | Tensor, eps: Tensor) -> Tensor:
        """The forward process of the VE-SDE, x0 + sigma eps."""
        alpha_bar_t = discrete_alpha_bar(level)
        return x0 + ((1 - alpha_bar_t) / alpha_bar_t).sqrt().to(x0.device, x0.dtype) * eps

    def ve_state(self, x: Tensor) -> Tensor:
        return x

    def solve(self, x: Tensor, noise: ImageNoise, trace: Trace) -> Tensor:
        """Song et al.'s Algorithm 2 without its corrector; one draw z for every step."""
        alpha_bars = alpha_bar(self.times.double())
        sigmas = ((1 - alpha_bars) / alpha_bars).sqrt()
        x_vp = x  # at least one step follows
        for (sigma, sigma_next), t_next in zip(pairwise(sigmas), self.times[1:], strict=True):
            variance = (sigma**2 - sigma_next**2).to(x.dtype)
            mean = self.mean(x, sigma=sigma, variance=variance)
            x = mean + variance.sqrt() * noise.normal_like(x)
            x_vp = vp_state(x, sigma_next)
            trace(t_next, x_vp)
        return x_vp

    @recomputed
    def mean(self, x: Tensor, *, sigma: Tensor, variance: Tensor) -> Tensor:
        """Of a step that removes this variance: x + (sigma^2 - sigma_next^2) score."""
        return x + variance * self.denoiser.score_ve(x, sigma)


def build(
    *,
    network: Denoiser,
    t: Timestep,
    solver: SDESolver = "euler-maruyama",
    evaluations: Timestep | None = None,
    correction: Correction | None = None,
    resize: Side | None = None,
    rounds: Rounds = 1,
    t_delta: TimestepSpread = 0,
) -> VESDE:
    """VE-SDE purification to level `t` with the score of `network`."""
    return VESDE(
        network,
        t=t,
        solver=solver,
        evaluations=evaluations,
        correction=correction,
        resize=resize,
        rounds=rounds,
        t_delta=t_delta,
    )
