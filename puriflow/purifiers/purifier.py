"""What purifiers have in common: the scale and size of their network, and rounds.

A purifier works on [-1, 1] at the network's size, and maps back to [0, 1] without a clamp, as
DiffPure does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import Denoiser
from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError
from puriflow.randomness import ImageNoise

# Of every step of a way back: the time t of the VP-SDE, in [0, 1]; x_t, what the forward process
# made of the round's clean image at t; and x'_t, the state. Both (N, 3, H, W), on the VP scale.
Watch = Callable[[float, Tensor, Tensor], None]


class Purifier(nn.Module, ABC):
    """Images (N, 3, H, W) on [0, 1] in and out; the output is not clamped.

    Args:
        denoiser: the network.
        resize: side to which the image is resized for the network (256 in DiffPure), bilinear
            without antialiasing, and back; None for the image's own size.
        rounds: how often all of it is done (DiffPure's `sample_step`).

    Raises:
        UserError: there is no round.
    """

    def __init__(self, denoiser: Denoiser, *, resize: int | None = None, rounds: int = 1):
        super().__init__()
        if rounds < 1:
            raise UserError(f"rounds is {rounds}, but must be 1 or more")
        self.denoiser = denoiser
        self.resize = resize
        self.rounds = rounds

    def forward(self, images: Tensor, noise: ImageNoise, watch: Watch | None = None) -> Tensor:
        """Purify.

        Args:
            images: (N, 3, H, W) in [0, 1].
            noise: every draw, in the order in which it is used.
            watch: called after every step back from a diffusion, of every round.
        """
        size = images.shape[-2:]
        x = images * 2 - 1
        if self.resize is not None:
            x = F.interpolate(x, (self.resize, self.resize), mode="bilinear", align_corners=False)
        for _ in range(self.rounds):
            x = self.round(x, noise, watch)
        if self.resize is not None:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return (x + 1) / 2

    def stepwise(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """step(*inputs), in memory that does not grow with the network; see `recomputed`."""
        return recomputed(step, self.denoiser, *inputs)

    @abstractmethod
    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """Purify x (N, 3, H, W) on [-1, 1], once."""
