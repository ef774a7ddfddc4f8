"""Purification by the VP-SDE, as in DiffPure (Nie et al. 2022; paper, section 4.1, Eq. 5 and 6).

The image is diffused to level t' at once and the reverse SDE is solved back to t = 0. DiffPure
does so by Euler-Maruyama in t' steps of 1/1000, with an evaluation of the network each. Fewer leave
more of the last step's noise in the image; other solvers need fewer (see `SolverPurifier`).
"""

from itertools import pairwise
from typing import get_args

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import beta
from puriflow.options import Correction, Rounds, SDESolver, Side, Timestep, TimestepSpread
from puriflow.purifiers.base import SolverPurifier, Trace
from puriflow.randomness import ImageNoise


class VPSDE(SolverPurifier):
    """The purifier; see `SolverPurifier`."""

    SOLVERS = get_args(SDESolver)
    eta = 1

    def solve(self, x: Tensor, noise: ImageNoise, trace: Trace) -> Tensor:
        """Euler-Maruyama; one draw z for every step."""
        for t, t_next in pairwise(self.times):
            sigma = (beta(t) * (t - t_next)).sqrt()
            x = self.mean(x, t=t, t_next=t_next) + sigma * noise.normal_like(x)  # Eq. 6
            trace(t_next, x)
        return x

    @recomputed
    def mean(self, x: Tensor, *, t: Tensor, t_next: Tensor) -> Tensor:
        """Of a step from t to t_next: x + [beta/2 x + beta score] dt, Eq. 6 in reverse time."""
        drift = 0.5 * beta(t) * x + beta(t) * self.denoiser.score(x, t)
        return x + drift * (t - t_next)


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
) -> VPSDE:
    """VP-SDE purification to level `t` with the score of `network`."""
    return VPSDE(
        network,
        t=t,
        solver=solver,
        evaluations=evaluations,
        correction=correction,
        resize=resize,
        rounds=rounds,
        t_delta=t_delta,
    )
