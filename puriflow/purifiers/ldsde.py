"""Purification by Langevin dynamics as an SDE (LD-SDE, DiffPure's variant after Yoon et al. 2021).

There is no forward diffusion: the image follows the score of a slightly noisy level, is held near
where it started, and is shaken: dx = -lambda/2 (-s(x, 0.01) + (x - x_0) / sigma2) ds
+ sqrt(lambda) eta dw for a time of t'/1000, by Euler steps of 0.01.
"""

from functools import partial

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS
from puriflow.errors import UserError
from puriflow.purifiers.purifier import Purifier, Watch
from puriflow.purifiers.vpsde import END
from puriflow.randomness import ImageNoise

LEVEL = 0.01  # the time at which DiffPure asks for the score
STEP = 0.01


class LDSDE(Purifier):
    """See `Purifier`.

    Args:
        denoiser: the network.
        t: the time t', 1 to 1000.
        sigma2, rate, eta: sigma2, lambda and eta of the SDE; DiffPure's defaults.
        options: of `Purifier`.

    Raises:
        UserError: a time that is not there, or no round.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        t: int,
        sigma2: float,
        rate: float,
        eta: float,
        **options: int | None,
    ):
        super().__init__(denoiser, **options)
        if not 1 <= t <= STEPS:
            raise UserError(f"t' is {t}, but must lie between 1 and {STEPS}")
        self.t, self.sigma2, self.rate, self.eta = t, sigma2, rate, eta

    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """See `Purifier.round`; one draw for every step. No diffusion, so nothing to watch."""
        start, left = x, self.t / STEPS - END
        while left > 1e-9:
            length = min(STEP, left)
            spread = (self.rate * length) ** 0.5 * self.eta
            mean = self.stepwise(partial(self._mean, length=length), x, start)
            x = mean + spread * noise.normal_like(x)
            left -= length
        return x

    def _mean(self, x: Tensor, start: Tensor, length: float) -> Tensor:
        score = self.denoiser.score(x, torch.tensor(LEVEL))
        drift = -0.5 * self.rate * (-score + (x - start) / self.sigma2)
        return x + drift * length


def build(
    *,
    network: Denoiser,
    t: int,
    sigma2: float = 1e-3,
    rate: float = 1e-2,
    eta: float = 5.0,
    resize: int | None = None,
    rounds: int = 1,
) -> LDSDE:
    """LD-SDE purification for a time of t'/1000 with the score of `network`."""
    return LDSDE(network, t=t, sigma2=sigma2, rate=rate, eta=eta, resize=resize, rounds=rounds)
