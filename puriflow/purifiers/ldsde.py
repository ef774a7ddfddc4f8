"""Purification by Langevin dynamics as an SDE (LD-SDE, DiffPure's variant after Yoon et al. 2021).

There is no forward diffusion: the image follows the score of a slightly noisy level, is held near
where it started, and is shaken: dx = -lambda/2 (-s(x, 0.01) + (x - x_0) / sigma2) ds
+ sqrt(lambda) eta dw for a time of t'/1000, by Euler steps of 0.01.
"""

import torch
from torch import Tensor

from puriflow import parts
from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS
from puriflow.purifiers.diffused import Diffused, stepwise
from puriflow.purifiers.vpsde import END
from puriflow.seeding import ImageNoise

LEVEL = 0.01  # the time at which DiffPure asks for the score
STEP = 0.01


class LDSDE(Diffused):
    """The purifier; see `Diffused`.

    Args:
        denoiser: the network.
        sigma2, rate, eta: sigma2, lambda and eta of the SDE; DiffPure's defaults.
        options: of `Diffused`.
    """

    def __init__(
        self, denoiser: Denoiser, *, sigma2: float, rate: float, eta: float, **options: int | None
    ):
        super().__init__(denoiser, **options)
        self.sigma2, self.rate, self.eta = sigma2, rate, eta

    def diffuse(self, x: Tensor, level: int | Tensor, noise: ImageNoise) -> Tensor:
        """No forward diffusion."""
        return x

    def reverse(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """See `Diffused.reverse`; one draw for every step."""
        start, left = x, self.t / STEPS - END
        while left > 1e-9:
            length = min(STEP, left)
            x = stepwise(self._step, x, start, noise.normal_like(x), length)
            left -= length
        return x

    def _step(self, x: Tensor, start: Tensor, z: Tensor, length: float) -> Tensor:
        score = self.denoiser.score(x, torch.tensor(LEVEL))
        drift = -0.5 * self.rate * (-score + (x - start) / self.sigma2)
        return x + drift * length + (self.rate * length) ** 0.5 * self.eta * z


def build(
    *,
    network: dict,
    t: int,
    sigma2: float = 1e-3,
    rate: float = 1e-2,
    eta: float = 5.0,
    resize: int | None = None,
    rounds: int = 1,
) -> LDSDE:
    """LD-SDE purification for a time of t'/1000 with the score of `network`."""
    denoiser = parts.build("networks", "network", network)
    return LDSDE(denoiser, t=t, sigma2=sigma2, rate=rate, eta=eta, resize=resize, rounds=rounds)
