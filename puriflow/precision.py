"""Networks in less than float32: bfloat16 for convolutions and products of matrices.

A CPU that knows bfloat16 takes a third less time for an evaluation of the mini track's ADM. Its
eight bits of mantissa are for what lies within a network: what reads or writes images stays in
float32.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from puriflow.options import Precision

MOST_OF_IMAGES = 12  # channels: of an image, or of two by two of its pixels


def lowered(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Within it, a network's convolutions and products of matrices have that precision.

    It keeps no cast weights, which outlive a step of training inside another autocast.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def keep_ends_in_float32(network: nn.Module) -> None:
    """Leave `lowered` out of convolutions with at most MOST_OF_IMAGES channels on a side.

    Those read or write images, and bfloat16 would round away the small noise that is to be removed.
    (In a very narrow net, others are among them.)
    """
    for module in network.modules():
        sides = (module.in_channels, module.out_channels) if isinstance(module, nn.Conv2d) else ()
        if sides and min(sides) <= MOST_OF_IMAGES:
            own = type(module)
            module.__class__ = type(own.__name__, (own,), {"forward": _float32(own.forward)})


def _float32(forward: Callable) -> Callable:
    def wrapped(self: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(self, x.float())

    return wrapped
