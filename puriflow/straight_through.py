"""The straight-through estimator: a function computed as it is, and differentiated as the identity.

This is BPDA's approximation (Athalye et al. 2018) for what has no gradient, or whose gradient an
attack leaves out.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def straight_through(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) forwards, of the shape of x; the identity backwards, at no cost of memory."""
    return _StraightThrough.apply(x, function)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x).view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
