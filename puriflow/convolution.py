"""Convolutions whose weights are constants keep no input for their gradient.

torch keeps it for the gradient of the weights, also where nobody asks for that: a third of what the
exact gradient of an ADM holds, and four fifths of ESRGAN's. The gradient by the image needs the
weights and the input's shape alone. Numbers are the same to the last bit.
"""

from typing import Any

import torch
from torch import Tensor, nn


def keep_no_inputs(network: nn.Module) -> None:
    """Let a network's plain convolutions keep no input wherever their weights are constants."""
    for module in network.modules():
        if type(module) in FROZEN:  # what inherits from them has a way of its own
            module.__class__ = FROZEN[type(module)]


class FrozenConv1d(nn.Conv1d):
    """As `nn.Conv1d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if keeps_something(self, input, weight, bias):
            return super()._conv_forward(input, weight, bias)
        return _Convolution.apply(input, weight, bias, *options_of(self))


class FrozenConv2d(nn.Conv2d):
    """As `nn.Conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if keeps_something(self, input, weight, bias):
            return super()._conv_forward(input, weight, bias)
        return _Convolution.apply(input, weight, bias, *options_of(self))


FROZEN: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: FrozenConv1d,
    nn.Conv2d: FrozenConv2d,
}


def keeps_something(
    conv: nn.Conv1d | nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None
) -> bool:
    """Whether torch's own way is taken: a weight has a gradient, nothing has, or it is unusual."""
    trained = weight.requires_grad or (bias is not None and bias.requires_grad)
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return trained or not x.requires_grad or not zeros or x.ndim != weight.ndim


def options_of(conv: nn.Conv1d | nn.Conv2d) -> tuple[Any, ...]:
    """What a convolution is called with beside its tensors."""
    return conv.stride, conv.padding, conv.dilation, conv.groups


class _Convolution(torch.autograd.Function):
    """A convolution with a gradient by its input alone, which may be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.options = stride, padding, dilation, False, (0,) * len(stride), groups
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        first = x.is_contiguous()
        ctx.format = torch.channels_last if last and not first else torch.contiguous_format
        convolve = nn.functional.conv2d if x.ndim == 4 else nn.functional.conv1d
        return convolve(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    # pyrefly: ignore[bad-override]  # there is one gradient, that of the output
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        # Autocast gave the convolution other types than its own, as torch's own gradient has them.
        weight = weight.to(grad.dtype)
        like = torch.empty(
            ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.format
        )  # its numbers are not read
        grad_input = torch.ops.aten.convolution_backward(
            grad, like, weight, None, *ctx.options, (True, False, False)
        )[0]
        return grad_input.to(ctx.dtype), *(None,) * 6
