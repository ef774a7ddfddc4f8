"""Purification by the probability-flow ODE of the VP-SDE (Song et al. 2021; DiffPure's variant).

The same way back as the VP-SDE's in distribution, without noise: dx/dt = -beta/2 (x + score). Only
the forward diffusion is random.
"""

from functools import partial

from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import beta
from puriflow.errors import UserError
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.purifiers.vpsde import time_grid
from puriflow.randomness import ImageNoise


class ODE(Diffused):
    """The purifier by Euler steps; see `Diffused`, and `time_grid` for `step`."""

    def __init__(self, denoiser: Denoiser, *, step: int = 1, **options: int | None):
        super().__init__(denoiser, **options)
        if step < 1:
            raise UserError(f"step is {step} thousandths, but must be 1 or more")
        self.register_buffer("times", time_grid(self.t, step), persistent=False)

    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """See `Diffused.reverse`; draws nothing."""
        for t, after in zip(self.times[:-1], self.times[1:], strict=True):
            x = self.stepwise(partial(self._step, t=t, after=after), x)
            yield float(after), x

    def _step(self, x: Tensor, t: Tensor, after: Tensor) -> Tensor:
        return x + 0.5 * beta(t) * (x + self.denoiser.score(x, t)) * (t - after)


def build(
    *,
    network: Denoiser,
    t: int,
    step: int = 1,
    resize: int | None = None,
    rounds: int = 1,
    t_delta: int = 0,
) -> ODE:
    """Probability-flow purification to level `t` with the score of `network`."""
    return ODE(network, t=t, step=step, resize=resize, rounds=rounds, t_delta=t_delta)
