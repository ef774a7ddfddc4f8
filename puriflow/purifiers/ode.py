"""Purification by the probability-flow ODE of the VP-SDE (Song et al. 2021; DiffPure's variant).

The same marginals as the reverse VP-SDE's, without noise: dx/dt = -beta/2 (x + score). Only the
forward diffusion is random.
"""

from itertools import pairwise
from typing import Unpack

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import beta, time_grid
from puriflow.purifiers.base import Callback, DiffusionPurifier, LevelOptions
from puriflow.randomness import ImageNoise


class ODE(DiffusionPurifier):
    """The purifier by Euler steps; see `DiffusionPurifier`, and `time_grid` for `step_size`."""

    times: Tensor

    def __init__(self, denoiser: Denoiser, *, step_size: int = 1, **options: Unpack[LevelOptions]):
        super().__init__(denoiser, **options)
        self.register_buffer("times", time_grid(self.t, step_size), persistent=False)

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """See `Purifier.purify`; the steps draw nothing."""
        x, trace = self.diffuse(x, noise, callback)
        for t, t_next in pairwise(self.times):
            x = self.euler(x, t=t, t_next=t_next)
            trace(t_next, x)
        return x

    @recomputed
    def euler(self, x: Tensor, *, t: Tensor, t_next: Tensor) -> Tensor:
        """A step from t to t_next along dx/dt = f - g^2/2 score (Song et al., Eq. 13)."""
        return x + 0.5 * beta(t) * (x + self.denoiser.score(x, t)) * (t - t_next)


def build(
    *,
    network: Denoiser,
    t: int,
    step_size: int = 1,
    resize: int | None = None,
    rounds: int = 1,
    t_delta: int = 0,
) -> ODE:
    """Probability-flow purification to level `t` with the score of `network`."""
    return ODE(network, t=t, step_size=step_size, resize=resize, rounds=rounds, t_delta=t_delta)
