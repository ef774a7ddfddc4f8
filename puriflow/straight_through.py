"""Identity gradients: a step of the chain that is computed as it is and differentiated as nothing.

This is BPDA's approximation (Athalye et al. 2018) for what has no gradient, or whose gradient an
attack leaves out.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def straight_through(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) forwards, of the shape of x; the identity backwards, keeping nothing of it."""
    return _StraightThrough.apply(x, function)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_, x, function):
        return function(x).view_as(x)

    @staticmethod
    def backward(_, gradient):
        return gradient, None
