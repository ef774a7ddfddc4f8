"""Purification by generalised DDIM steps in stages (Lee and Kim 2023, "gradual noise scheduling").

A stage is a level, how many steps lead back from it, and how often it is done; the published
defence goes from low levels to high ones. With eta 1 the steps are DDPM's, with eta 0 they draw
nothing (Song et al. 2021, Eq. 12). x0 is not clamped.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, time_of_sigma
from puriflow.errors import UserError
from puriflow.purifiers.diffused import Diffused, WayBack
from puriflow.purifiers.purifier import Watch
from puriflow.randomness import ImageNoise

Stage = tuple[int, int, int]  # level t', steps, times


def steps_of(level: int, count: int) -> list[int]:
    """The timesteps of a stage, from the first above 0 to level - 1.

    Raises:
        UserError: there are more steps than the level has.
    """
    if not 1 <= count <= level:
        raise UserError(f"a stage to t' = {level} has 1 to {level} steps, not {count}")
    stride = level // count
    return [(i + 1) * stride - 1 for i in range(count)]


class DDIM(Diffused):
    """The purifier; see `Diffused`.

    Args:
        denoiser: the network.
        stages: level, steps and times of each.
        eta: 1 for DDPM's noise, 0 for none.
        options: of `Diffused`, without t.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        stages: Sequence[Stage],
        eta: float,
        **options: int | None,
    ):
        if not stages:
            raise UserError("ddim needs at least one stage: [level, steps, times]")
        super().__init__(denoiser, t=max(level for level, *_ in stages), **options)
        self.stages = [
            (level, steps_of(level, n)) for level, n, times in stages for _ in range(times)
        ]
        self.eta = eta

    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """All stages; a forward draw each, then one for every step."""
        for level, steps in self.stages:
            x = self.there_and_back(x, level, partial(self.reverse, steps=steps), noise, watch)
        return x

    def reverse(self, x: Tensor, noise: ImageNoise, steps: Sequence[int]) -> WayBack:
        """See `Diffused.reverse`; down the timesteps of a stage."""
        kept = DISCRETE_ALPHA_BAR[list(steps)[::-1]].tolist()
        for now, after in pairwise([*kept, 1.0]):
            fresh = self.eta * ((1 - now / after) * (1 - after) / (1 - now)) ** 0.5
            step = partial(self._mean, now=now, after=after, fresh=fresh)
            x = self.stepwise(step, x) + fresh * noise.normal_like(x)
            yield time_of_sigma(sigma_of(after)).item(), x

    def _mean(self, x: Tensor, now: float, after: float, fresh: float) -> Tensor:
        """From one alpha_bar to a greater one, where `fresh` is the spread of new noise."""
        predicted, _ = self.denoiser.noise_and_variance(x, sigma_of(now))
        x0 = (x - (1 - now) ** 0.5 * predicted) / now**0.5
        old = max(1 - after - fresh**2, 0.0) ** 0.5
        return after**0.5 * x0 + old * predicted


def sigma_of(kept: float) -> Tensor:
    """The VE sigma of an alpha_bar, in float64."""
    return torch.tensor((1 / kept - 1) ** 0.5, dtype=torch.float64)


def build(
    *,
    network: Denoiser,
    stages: Sequence[Stage] = ((30, 30, 4), (50, 50, 2), (125, 125, 2)),
    eta: float = 1.0,
    resize: int | None = None,
    rounds: int = 1,
) -> DDIM:
    """DDIM or DDPM steps in stages; the default is Lee and Kim's CIFAR-10 defence."""
    return DDIM(network, stages=stages, eta=eta, resize=resize, rounds=rounds)
