"""What rounds, and the two gradients that an attack may take through it.

Rounding has a gradient of zero almost everywhere. `straight-through` is BPDA's answer, the identity
(Athalye et al. 2018). `smooth` differentiates what rounds with Shin and Song's rounding (2017) in
place of the true one, x -> round(x) + (x - round(x))^3, whose slope is 3 (x - round(x))^2: 0 at
whole numbers, 3/4 half-way between two. Forwards it is the true one, whatever the gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from puriflow.options import RoundingGradient
from puriflow.straight_through import straight_through


def smooth_round(x: Tensor) -> Tensor:
    """Shin and Song's rounding, equal to the true one at whole numbers, with a gradient."""
    nearest = x.detach().round()
    return nearest + (x - nearest) ** 3


def rounded(
    function: Callable[[Tensor], Tensor],
    smooth: Callable[[Tensor], Tensor],
    x: Tensor,
    gradient: RoundingGradient,
) -> Tensor:
    """function(x) forwards, of the shape of x; backwards the gradient of that name.

    Args:
        function: which rounds, and is computed.
        smooth: the same with `smooth_round`, differentiable; asked only for the gradient.
        x: where.
        gradient: `straight-through` or `smooth`.
    """
    if gradient == "straight-through":
        return straight_through(function, x)
    return _Smooth.apply(x, function, smooth)


class _Smooth(torch.autograd.Function):
    """Keeps x alone: the smooth function is computed on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, smooth: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.smooth = smooth
        return function(x).view_as(x)

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(ctx.smooth(x), x, grad)[0], None, None
