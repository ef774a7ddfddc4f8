"""What purifiers by diffusion have in common: scale, size, rounds, the forward noise, checkpoints.

A purifier diffuses the image to level t' and takes it back; how it takes it back is its own. It
works on [-1, 1] and maps back to [0, 1] without a clamp, as DiffPure does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS, diffuse
from puriflow.errors import Problem
from puriflow.seeding import ImageNoise


class Diffused(nn.Module, ABC):
    """Images (N, 3, H, W) on [0, 1] in and out; the output is not clamped.

    Args:
        denoiser: the network.
        t: the level t' to which the image is diffused, 1 to 1000.
        resize: side to which the image is resized for the network (256 in DiffPure), bilinear
            without antialiasing, and back; None for the image's own size.
        rounds: how often all of it is done (DiffPure's `sample_step`).
        t_delta: the forward level of each image and round is drawn from [t - t_delta, t + t_delta)
            (DiffPure's `rand_t`); the way back starts at t all the same.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        t: int,
        resize: int | None = None,
        rounds: int = 1,
        t_delta: int = 0,
    ):
        super().__init__()
        if not 1 <= t - t_delta <= t + t_delta <= STEPS:
            raise Problem(f"t' is {t} +- {t_delta}, but must lie between 1 and {STEPS}")
        if rounds < 1:
            raise Problem(f"rounds is {rounds}, but must be 1 or more")
        self.denoiser = denoiser
        self.t = t
        self.resize = resize
        self.rounds = rounds
        self.t_delta = t_delta

    def forward(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Purify; `noise` gives every draw in the order in which it is used."""
        size = images.shape[-2:]
        x = images * 2 - 1
        if self.resize is not None:
            x = F.interpolate(x, (self.resize, self.resize), mode="bilinear", align_corners=False)
        for _ in range(self.rounds):
            x = self.round(x, noise)
        if self.resize is not None:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return (x + 1) / 2

    def round(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Diffuse x on [-1, 1] and take it back, once."""
        level = self.t
        if self.t_delta:
            level = self.t + noise.integers(-self.t_delta, self.t_delta)
        x = self.diffuse(x, level, noise).contiguous(memory_format=torch.channels_last)
        return self.reverse(x, noise)

    def diffuse(self, x: Tensor, level: int | Tensor, noise: ImageNoise) -> Tensor:
        """The forward process to a level, of the VP-SDE: one draw."""
        return diffuse(x, level, noise.normal_like(x))

    @abstractmethod
    def reverse(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """From the diffused x (N, 3, H, W) on [-1, 1] back to a clean one."""


def stepwise(step: Callable[..., Tensor], x: Tensor, *arguments: Tensor | float) -> Tensor:
    """One step of a solver, in memory that does not grow with the network.

    Backwards, the step is computed again with its own noise (an argument): what is kept is one
    image a step instead of a network's activations.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return checkpoint(step, x, *arguments, use_reentrant=False)
    return step(x, *arguments)
