"""A classifier that takes [0, 1] images and normalises inside, like every model of this project."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.fitting import check_side
from puriflow.kernels import layout
from puriflow.options import Interpolation, Named


class Normalised(nn.Module):
    """`network` behind (x - mean) / std a channel: evaluated, frozen, in channels-last order.

    It insists on images of the side `size`, which it was made for: many a network would compute
    something of any other; with an `interpolation` it resizes them to it, whole and smoothed.
    `dataset` is the one whose classes it knows, where that is known, and `made_by` are options of a
    data set whose images it takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        dataset: Named | None = None,
        interpolation: Interpolation | None = None,
        made_by: str | None = None,
    ):
        super().__init__()
        self.network, self.size, self.dataset = network, size, dataset
        self.interpolation, self.made_by = interpolation, made_by
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
        self.eval().requires_grad_(False).to(memory_format=layout())

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size), or of any size with an interpolation, to logits (N, classes).

        Images lie in [0, 1].
        """
        side = (self.size, self.size)
        if self.interpolation is not None and images.shape[-2:] != side:
            mode = self.interpolation  # bicubic goes beyond [0, 1]
            images = F.interpolate(images, side, mode=mode, antialias=True).clamp(0, 1)
        check_side("this classifier", images, self.size, self.made_by)
        return self.network(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to what the network takes."""
        return (images - self.mean) / self.std
