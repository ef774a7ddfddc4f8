"""Purification by Langevin dynamics as an SDE (LD-SDE, DiffPure's variant after Yoon et al. 2021).

There is no forward diffusion: the image follows the score of a slightly noisy level, is held near
the given image x0, in every round, and is shaken: dx = -lambda/2 (-s(x, 0.01) + (x - x0) / sigma2)
ds + sqrt(lambda) eta dw for a time of t'/1000, by Euler-Maruyama steps of 0.01.
"""

from typing import Unpack

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import STEPS, T_END
from puriflow.errors import UserError
from puriflow.options import NonNegative, Positive, Rounds, Side, Timestep
from puriflow.purifiers.base import Callback, Options, Purifier
from puriflow.randomness import ImageNoise

STRIDE = 10  # for planning
T_SCORE = 0.01  # the time at which DiffPure asks for the score
STEP_SIZE = 0.01


class LDSDE(Purifier):
    """See `Purifier`.

    Args:
        t: the time t', 1 to 1000.
        sigma2, lambda_ld, eta: sigma2, lambda and eta of the SDE, by DiffPure's names.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        t: int,
        sigma2: float,
        lambda_ld: float,
        eta: float,
        **options: Unpack[Options],
    ):
        super().__init__(denoiser, **options)
        if not 1 <= t <= STEPS:
            raise UserError(f"t' is {t}, but must lie between 1 and {STEPS}")
        if lambda_ld * STEP_SIZE > 4 * sigma2:  # what is left of x - x0 would grow by each step
            raise UserError(
                f"sigma2 is {sigma2:g}, but with lambda_ld {lambda_ld:g} the SDE is unstable below "
                f"{lambda_ld * STEP_SIZE / 4:g}"
            )
        self.t, self.sigma2, self.lambda_ld, self.eta = t, sigma2, lambda_ld, eta

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        return self.purify_near(x, x, noise, callback)

    def purify_near(
        self, given: Tensor, x: Tensor, noise: ImageNoise, callback: Callback | None
    ) -> Tensor:
        """One draw z for every step. There is no reverse process, so no callback is called."""
        left = self.t / STEPS - T_END
        while left > 1e-9:
            ds = min(STEP_SIZE, left)
            sigma = (self.lambda_ld * ds) ** 0.5 * self.eta
            x = self.mean(x, given, ds=ds) + sigma * noise.normal_like(x)
            left -= ds
        return x

    @recomputed
    def mean(self, x: Tensor, x0: Tensor, *, ds: float) -> Tensor:
        """Of a step: x + drift ds."""
        score = self.denoiser.score(x, torch.tensor(T_SCORE, dtype=torch.float32))
        drift = -0.5 * self.lambda_ld * (-score + (x - x0) / self.sigma2)
        return x + drift * ds


def build(
    *,
    network: Denoiser,
    t: Timestep,
    sigma2: Positive = 1e-3,
    lambda_ld: NonNegative = 1e-2,
    eta: NonNegative = 5.0,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> LDSDE:
    """LD-SDE purification for a time of t'/1000; the other default numbers are DiffPure's."""
    return LDSDE(
        network, t=t, sigma2=sigma2, lambda_ld=lambda_ld, eta=eta, resize=resize, rounds=rounds
    )
