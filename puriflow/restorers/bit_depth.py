"""Bit-depth reduction (Guo et al. 2018, after Xu et al. 2017): round(2^d x) / 2^d.

So 2^d + 1 values of each colour are left, 0 and 1 among them. Guo et al.'s code has d = 8 by
default, which moves an 8-bit image by half of one of its levels at most; 3 is the depth at which
Athalye et al. (2018) attack it. They cut bits off, where this rounds, as Guo et al.'s code does.

Of a gradient the smooth rounding changes sizes and no sign, so that steps of signs (PGD in Linf) go
the same way by both, but for colours that are a level already, where it is 0.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn

from puriflow.options import RoundingGradient, whole
from puriflow.restorers.rounding import rounded, smooth_round


class BitDepth(nn.Module):
    """Colours of `depth` bits; `gradient` is `straight-through` or `smooth`."""

    def __init__(self, depth: int, gradient: RoundingGradient):
        super().__init__()
        self.levels = 2**depth
        self.gradient: RoundingGradient = gradient

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        return rounded(
            lambda x: self.reduced(x, torch.round),
            lambda x: self.reduced(x, smooth_round),
            images,
            self.gradient,
        )

    def reduced(self, images: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        """The paper's formula, by one rounding or another."""
        return rounding(images * self.levels) / self.levels


def build(
    *, depth: Annotated[int, whole(1, 16)] = 3, gradient: RoundingGradient = "straight-through"
) -> BitDepth:
    """Round every colour to `depth` bits."""
    return BitDepth(depth, gradient)
