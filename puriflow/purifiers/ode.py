"""Purification by the probability-flow ODE of the VP-SDE (Song et al. 2021; DiffPure's variant).

The same marginals as the reverse VP-SDE's, without noise: dx/dt = -beta/2 (x + score). Only the
forward diffusion is random.
"""

from itertools import pairwise
from typing import get_args

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import beta
from puriflow.options import ODESolver, Rounds, Side, Timestep, TimestepSpread
from puriflow.purifiers.base import SolverPurifier, Trace
from puriflow.randomness import ImageNoise


class ODE(SolverPurifier):
    """The purifier; see `SolverPurifier`."""

    SOLVERS = get_args(ODESolver)
    eta = 0

    def solve(self, x: Tensor, noise: ImageNoise, trace: Trace) -> Tensor:
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
    t: Timestep,
    solver: ODESolver = "euler",
    evaluations: Timestep | None = None,
    resize: Side | None = None,
    rounds: Rounds = 1,
    t_delta: TimestepSpread = 0,
) -> ODE:
    """Probability-flow purification to level `t` with the score of `network`."""
    return ODE(
        network,
        t=t,
        solver=solver,
        evaluations=evaluations,
        resize=resize,
        rounds=rounds,
        t_delta=t_delta,
    )
