"""Purification by generalised DDIM steps in stages (Lee and Kim 2023, "gradual noise scheduling").

A stage is a level, how many steps lead back from it, and how often it is done; the published
defence goes from low levels to high ones. With eta 1 the steps are DDPM's, with eta 0 they draw
nothing (Song, Meng and Ermon 2021, Eq. 12). Five such steps from level 100 with x0 clamped are what
ADBM (ICLR 2025) evaluates purifiers by, since their exact gradient is cheap.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NotRequired, Unpack

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, time_of_sigma
from puriflow.errors import UserError
from puriflow.options import Fraction, Rounds, Side, Stages
from puriflow.purifiers.base import Callback, DiffusionPurifier, Options
from puriflow.randomness import ImageNoise

STEPS = 470  # for planning, of the stages by default
Stage = tuple[int, int, int]  # level t', steps, times


def stage_timesteps(level: int, n_steps: int) -> list[int]:
    """The timesteps of a stage, from the first above 0 to level - 1."""
    if not 1 <= n_steps <= level:
        raise UserError(f"a stage to t' = {level} has 1 to {level} steps, not {n_steps}")
    stride = level // n_steps
    return [(i + 1) * stride - 1 for i in range(n_steps)]


class StageOptions(Options):
    """The keyword arguments of `DDIM`."""

    stages: Sequence[Stage]
    eta: float
    clip: NotRequired[bool]


class DDIM(DiffusionPurifier):
    """The purifier; see `DiffusionPurifier`.

    Args:
        stages: level, steps and times of each.
        eta: 1 for DDPM's noise, 0 for none.
        clip: whether x0 is clamped to [-1, 1].
    """

    pointing = 1  # how much of the direction to x_t a step has

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        stages: Sequence[Stage],
        eta: float,
        clip: bool = False,
        **options: Unpack[Options],
    ):
        if not stages:
            raise UserError("ddim needs at least one stage: [level, steps, times]")
        super().__init__(denoiser, t=max(level for level, *_ in stages), **options)
        self.stages = [
            (level, stage_timesteps(level, n_steps))
            for level, n_steps, times in stages
            for _ in range(times)
        ]
        self.eta, self.clip = eta, clip

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """All stages; a forward draw each, then one draw z for every step."""
        for level, timesteps in self.stages:
            given = x
            x, trace = self.diffuse(x, noise, callback, level)
            alpha_bars = [*DISCRETE_ALPHA_BAR[timesteps[::-1]].tolist(), 1.0]
            for alpha_bar, alpha_bar_next in pairwise(alpha_bars):
                variance = (1 - alpha_bar / alpha_bar_next) * (1 - alpha_bar_next) / (1 - alpha_bar)
                sigma = self.eta * variance**0.5  # Eq. 16
                held = self.held(given, noise)
                levels = {"alpha_bar": alpha_bar, "alpha_bar_next": alpha_bar_next}
                mean = self.mean(x, *held, **levels, sigma=sigma)
                x = mean + sigma * noise.normal_like(x)  # Eq. 12
                trace(time_of_sigma(ve_sigma(alpha_bar_next)), x)
        return x

    def held(self, given: Tensor, noise: ImageNoise) -> tuple[Tensor, ...]:
        """What a step is held to, for `hold`: of the image that its stage started from."""
        return ()

    def hold(self, x0: Tensor, *held: Tensor, alpha_bar: float) -> Tensor:
        """The network's x0 at a level, as a step takes it."""
        return x0.clamp(-1, 1) if self.clip else x0

    @recomputed
    def mean(
        self, x: Tensor, *held: Tensor, alpha_bar: float, alpha_bar_next: float, sigma: float
    ) -> Tensor:
        """Eq. 12 without its noise, which will have this sigma."""
        eps, _ = self.denoiser.eps_and_variance(x, ve_sigma(alpha_bar))
        x0 = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
        x0 = self.hold(x0, *held, alpha_bar=alpha_bar)
        direction = max(1 - alpha_bar_next - sigma**2, 0.0) ** 0.5 * eps  # pointing to x_t
        return alpha_bar_next**0.5 * x0 + self.pointing * direction


def ve_sigma(alpha_bar: float) -> Tensor:
    """The VE sigma of an alpha_bar, in float64."""
    return torch.tensor((1 / alpha_bar - 1) ** 0.5, dtype=torch.float64)


def build(
    *,
    network: Denoiser,
    stages: Stages = ((30, 30, 4), (50, 50, 2), (125, 125, 2)),
    eta: Fraction = 1.0,
    clip: bool = False,
    resize: Side | None = None,
    rounds: Rounds = 1,
) -> DDIM:
    """DDIM or DDPM steps in stages; the default is Lee and Kim's CIFAR-10 defence."""
    return DDIM(network, stages=stages, eta=eta, clip=clip, resize=resize, rounds=rounds)
