"""Up and down again: what every super-resolution restorer has in common (paper, section 4.1).

A network H enlarges the image and a linear downsampler R (Proposition 1) brings it back to its
size. The paper names R only as linear, so it is an option: bicubic (default), bilinear or area.
"""

from functools import cache
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError, unknown
from puriflow.options import Downsampler


def downsample_to(images: Tensor, size: tuple[int, int], method: Downsampler) -> Tensor:
    """Shrink images (N, C, H, W) to `size` by a linear filter, antialiased; no clamp."""
    return resized(images, size, method, antialias=method != "area")


def resized(images: Tensor, size: tuple[int, int], method: Downsampler, antialias: bool) -> Tensor:
    """Images (N, C, H, W) of another size, by torch; on a GPU as products of matrices.

    Its own kernels would sum a gradient there in whatever order the terms come.
    """
    if images.device.type != "cuda":
        return _by_torch(images, size, method, antialias)
    rows, columns = (
        weights_of(before, after, method, antialias).to(images)
        for before, after in zip(images.shape[-2:], size, strict=True)
    )
    return rows @ images @ columns.T


@cache
def weights_of(before: int, after: int, method: Downsampler, antialias: bool) -> Tensor:
    """The matrix (after, before) by which an axis is resized, float32 on the CPU."""
    one_by_one = torch.eye(before, dtype=torch.float32, device="cpu")[None, None]
    return _by_torch(one_by_one, (after, before), method, antialias)[0, 0]


def _by_torch(
    images: Tensor, size: tuple[int, int], method: Downsampler, antialias: bool
) -> Tensor:
    if method == "area":
        return F.interpolate(images, size=size, mode="area")
    return F.interpolate(images, size=size, mode=method, align_corners=False, antialias=antialias)


class UpDown(nn.Module):
    """Enlarge by a network, shrink back by a linear filter: R(H(x)), clamped to [0, 1].

    Args:
        network: (N, 3, H, W) to (N, 3, scale H, scale W) on the scale 0 to `rgb_range`.
        scale: of the network.
        downsample: `bicubic`, `bilinear` or `area`.
        rounds: how often (paper, Figure 6); each begins with the image of the one before.
        rgb_range: largest value of a colour, 1 or 255, that the network was trained on.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: int,
        downsample: Downsampler,
        rounds: int = 1,
        rgb_range: float = 1,
    ):
        super().__init__()
        if downsample not in get_args(Downsampler):
            raise unknown("downsampler", downsample, get_args(Downsampler))
        if rounds < 1:
            raise UserError(f"rounds is {rounds}, but must be 1 or more")
        self.network = network
        self.scale = scale
        self.downsample = downsample
        self.rounds = rounds
        self.rgb_range = rgb_range

    def upscale(self, images: Tensor) -> Tensor:
        """The high-resolution image (N, 3, scale H, scale W), about [0, 1], not clamped."""
        return self.network(images * self.rgb_range) / self.rgb_range

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        for _ in range(self.rounds):
            images = self.round(images)
        return images

    @recomputed
    def round(self, images: Tensor) -> Tensor:
        """Up and down once. Where its activations find no room, a gradient computes it again.

        What that holds is then the more of restorer and purifier, and not both.
        """
        height, width = images.shape[-2:]
        high = self.upscale(images)
        if high.shape[-2:] != (height * self.scale, width * self.scale):
            raise UserError(
                f"the network enlarged {height}x{width} to {high.shape[-2]}x{high.shape[-1]}, "
                f"not by {self.scale}"
            )
        return downsample_to(high.clamp(0, 1), (height, width), self.downsample).clamp(0, 1)
