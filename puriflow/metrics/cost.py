"""What a network costs: parameters and multiply-accumulates, the FLOPs of the paper's Table 10.

Counted on the meta device, where no memory is allocated and nothing is computed, so that the
official networks are counted on any machine.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """Parameters, and MACs for one image."""

    parameters: int
    macs: int


def cost_of(network: nn.Module, side: int, *levels: float) -> Cost:
    """Count a network for one image (1, 3, side, side); it is of no use afterwards.

    The network is a restorer with all its rounds, or a diffusion network with what it takes beside
    the image, one number each.
    """
    network.to("meta")
    image = torch.zeros(1, 3, side, side, device="meta")
    more = [torch.full((1,), level, device="meta") for level in levels]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image, *more)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)
