"""What purifiers by diffusion have in common: the forward noise and the way back.

A purifier diffuses the image to level t' and takes it back; how it takes it back is its own.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.vp import STEPS, alpha_bar, diffuse
from puriflow.errors import UserError
from puriflow.purifiers.purifier import Purifier, Watch
from puriflow.randomness import ImageNoise

# After every step: the time t of the VP-SDE, in [0, 1], and the state there on the VP scale.
WayBack = Iterator[tuple[float, Tensor]]


class Diffused(Purifier):
    """See `Purifier`.

    Args:
        denoiser: the network.
        t: the level t' to which the image is diffused, 1 to 1000.
        t_delta: the forward level of each image and round is drawn from [t - t_delta, t + t_delta)
            (DiffPure's `rand_t`); the way back starts at t all the same.
        options: of `Purifier`.

    Raises:
        UserError: a level that is not there, or no round.
    """

    def __init__(self, denoiser: Denoiser, *, t: int, t_delta: int = 0, **options: int | None):
        super().__init__(denoiser, **options)
        if not 1 <= t - t_delta <= t + t_delta <= STEPS:
            raise UserError(f"t' is {t} +- {t_delta}, but must lie between 1 and {STEPS}")
        self.t = t
        self.t_delta = t_delta

    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """See `Purifier.round`."""
        level = self.t
        if self.t_delta:
            level = self.t + noise.integers(-self.t_delta, self.t_delta)
        return self.there_and_back(x, level, self.reverse, noise, watch)

    def there_and_back(
        self,
        clean: Tensor,
        level: int | Tensor,
        reverse: Callable[[Tensor, ImageNoise], WayBack],
        noise: ImageNoise,
        watch: Watch | None,
    ) -> Tensor:
        """Diffuse a clean x to a level and take it back: one draw, and those of `reverse`."""
        e = noise.normal_like(clean)
        start = self.diffuse(clean, level, e).contiguous(memory_format=torch.channels_last)
        for t, x in reverse(start, noise):
            if watch is not None:
                watch(t, diffused_to(t, clean, e), x)
        return x

    def diffuse(self, x: Tensor, level: int | Tensor, e: Tensor) -> Tensor:
        """The forward process to a level, with noise e: of the VP-SDE."""
        return diffuse(x, level, e)

    @abstractmethod
    def reverse(self, x: Tensor, noise: ImageNoise) -> WayBack:
        """From the diffused x (N, 3, H, W) on [-1, 1] back; the last state is the clean image."""


def diffused_to(t: float, x: Tensor, e: Tensor) -> Tensor:
    """The VP-SDE's state at time t in [0, 1], from a clean x with noise e."""
    kept = alpha_bar(torch.tensor(t, dtype=torch.float64)).item()
    return kept**0.5 * x + (1 - kept) ** 0.5 * e
