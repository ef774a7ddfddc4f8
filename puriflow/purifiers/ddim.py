"""Purification by generalised DDIM steps in stages (Lee and Kim 2023, "gradual noise scheduling").

A stage is a level, how many steps lead back from it, and how often it is done; the published
defence goes from low levels to high ones. With eta 1 the steps are DDPM's, with eta 0 they draw
nothing (Song et al. 2021, Eq. 12). x0 is not clamped.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from puriflow import parts
from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, diffuse
from puriflow.errors import Problem
from puriflow.purifiers.diffused import Diffused, stepwise
from puriflow.seeding import ImageNoise

Stage = tuple[int, int, int]  # level t', steps, times


def steps_of(level: int, count: int) -> list[int]:
    """The timesteps of a stage, from the first above 0 to level - 1.

    Raises:
        Problem: there are more steps than the level has.
    """
    if not 1 <= count <= level:
        raise Problem(f"a stage to t' = {level} has 1 to {level} steps, not {count}")
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
            raise Problem("ddim needs at least one stage: [level, steps, times]")
        super().__init__(denoiser, t=max(level for level, *_ in stages), **options)
        self.stages = [
            (level, steps_of(level, n)) for level, n, times in stages for _ in range(times)
        ]
        self.eta = eta

    def round(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """All stages; a forward draw each, then one for every step."""
        for level, steps in self.stages:
            x = diffuse(x, level, noise.normal_like(x))
            x = x.contiguous(memory_format=torch.channels_last)
            for now, after in zip(steps[::-1], [*steps[-2::-1], -1], strict=True):
                x = stepwise(self._step, x, noise.normal_like(x), now, after)
        return x

    def reverse(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Part of `round` here."""
        raise NotImplementedError

    def _step(self, x: Tensor, z: Tensor, now: int, after: int) -> Tensor:
        """From step `now` to the lower one `after`; -1 is the clean image."""
        kept = DISCRETE_ALPHA_BAR[now]
        kept_after = DISCRETE_ALPHA_BAR[after] if after >= 0 else 1.0
        sigma = torch.tensor((1 / kept - 1) ** 0.5)
        predicted, _ = self.denoiser.noise_and_variance(x, sigma)
        fresh = self.eta * ((1 - kept / kept_after) * (1 - kept_after) / (1 - kept)) ** 0.5
        old = max(1 - kept_after - fresh**2, 0.0) ** 0.5
        x0 = (x - (1 - kept) ** 0.5 * predicted) / kept**0.5
        return kept_after**0.5 * x0 + fresh * z + old * predicted


def build(
    *,
    network: dict,
    stages: Sequence[Stage] = ((30, 30, 4), (50, 50, 2), (125, 125, 2)),
    eta: float = 1.0,
    resize: int | None = None,
    rounds: int = 1,
) -> DDIM:
    """DDIM or DDPM steps in stages; the default is Lee and Kim's CIFAR-10 defence."""
    denoiser = parts.build("networks", "network", network)
    return DDIM(denoiser, stages=stages, eta=eta, resize=resize, rounds=rounds)
