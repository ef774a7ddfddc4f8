"""A classifier that takes [0, 1] images and normalises inside, like every model of this project."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from puriflow.fitting import check_side
from puriflow.options import Named


class Normalised(nn.Module):
    """`network` behind (x - mean) / std a channel: evaluated, frozen, in channels-last order.

    It insists on images of the side `size`, which it was made for: many a network would compute
    something of any other. `dataset` is the one whose classes it knows, where that is known.
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
    ):
        super().__init__()
        self.network, self.size, self.dataset = network, size, dataset
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] to logits (N, classes)."""
        check_side("this classifier", images, self.size)
        return self.network(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to what the network takes."""
        return (images - self.mean) / self.std
