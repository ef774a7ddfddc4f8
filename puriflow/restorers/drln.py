"""DRLN ("Densely Residual Laplacian Super-Resolution", Anwar and Barnes 2020), and its restorer.

Keys and quirks are the official code's: input in 0 to 255 with an unscaled mean shift, ReLU before
the pixel shuffle, attention whose dilated kernels see a 1x1 map, and a fifth block that is fed the
first long skip instead of its neighbour. The official class takes the scale alone; other options
have the names of EDSR-PyTorch, on which its code is built.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.options import Blocks, Channels, Downsampler, Rounds, Text, Whole, listed
from puriflow.restorers.edsr import MeanShift, ResBlock
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network


def under(key: str, module: nn.Module) -> nn.Sequential:
    """A module under one more key, as the official code nests it."""
    return nn.Sequential(OrderedDict({key: module}))


def conv(
    inputs: int, outputs: int, kernel: int, *after: nn.Module, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps height and width, and whatever follows it."""
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation)
    return under("body", nn.Sequential(layer, *after))


class LaplacianAttention(nn.Module):
    """Channel attention from three dilated convolutions of the pooled features."""

    def __init__(self, n_feats: int, reduction: int):
        super().__init__()
        hidden = max(n_feats // reduction, 1)
        self.c1 = conv(n_feats, hidden, 3, nn.ReLU(), dilation=3)
        self.c2 = conv(n_feats, hidden, 3, nn.ReLU(), dilation=5)
        self.c3 = conv(n_feats, hidden, 3, nn.ReLU(), dilation=7)
        self.c4 = conv(3 * hidden, n_feats, 3, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1)
        levels = torch.cat([self.c1(pooled), self.c2(pooled), self.c3(pooled)], dim=1)
        return x * self.c4(levels)


class Block(nn.Module):
    """Three residual blocks with ReLU on densely concatenated features, fused and attended."""

    def __init__(self, n_feats: int, reduction: int):
        super().__init__()
        self.r1 = ResBlock(n_feats, 3)
        self.r2 = ResBlock(2 * n_feats, 3)
        self.r3 = ResBlock(4 * n_feats, 3)
        self.g = conv(8 * n_feats, n_feats, 1, nn.ReLU())
        self.ca = LaplacianAttention(n_feats, reduction)

    def forward(self, x: Tensor) -> Tensor:
        for residual in (self.r1, self.r2, self.r3):
            x = torch.cat([x, F.relu(residual(x))], dim=1)
        return self.ca(self.g(x))


class DRLN(nn.Module):
    """The network: RGB in 0 to 255 in and out, no clamp.

    Args:
        n_feats: channels of the trunk (64 officially).
        groups: blocks of each group; a long skip spans a group (official: 3, 3, 3, 3, 4, 4).
        scale: 2 or 3 (the official x4 stacks two upsamplers; no table of the paper uses it).
        reduction: of the channel attention.
    """

    def __init__(
        self,
        *,
        n_feats: int = 64,
        groups: Sequence[int] = (3, 3, 3, 3, 4, 4),
        scale: int = 2,
        reduction: int = 16,
    ):
        super().__init__()
        self.groups = tuple(groups)
        self.sub_mean = under("shifter", MeanShift(1, -1))
        self.add_mean = under("shifter", MeanShift(1, 1))
        self.head = nn.Conv2d(3, n_feats, 3, padding=1)
        number = 0
        for size in self.groups:
            for place in range(size):
                number += 1
                fusion = conv((place + 2) * n_feats, n_feats, 3, nn.ReLU())
                self.add_module(f"b{number}", Block(n_feats, reduction))
                self.add_module(f"c{number}", fusion)
        up = conv(n_feats, n_feats * scale**2, 3, nn.ReLU(), nn.PixelShuffle(scale))
        self.upsample = under("up", up)
        self.tail = nn.Conv2d(n_feats, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        first = skip = out = self.head(self.sub_mean(x))
        number = 0
        for size in self.groups:
            dense, block_input = out, skip
            for _ in range(size):
                number += 1
                block = self.get_submodule(f"b{number}")(block_input)
                dense = torch.cat([dense, block], dim=1)
                out = self.get_submodule(f"c{number}")(dense)
                # Officially the fifth block reads the long skip again, so that the fusion of the
                # fourth is computed for nothing.
                block_input = skip if number == 4 else out
            skip = out + skip
        return self.add_mean(self.tail(self.upsample(skip + first)))


def build(
    *,
    weights: Text | None,
    n_feats: Channels = 64,
    groups: Annotated[Sequence[Blocks], listed(1, 100, "whole numbers from 1 to 1000")] = (
        3,
        3,
        3,
        3,
        4,
        4,
    ),
    scale: Annotated[Literal[2, 3], Whole] = 2,
    reduction: Channels = 16,
    rgb_range: Annotated[Literal[1, 255], Whole] = 255,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """DRLN up, linear downsampler back; the default numbers are the official ones.

    The mean shift of the official code is of [0, 1] whatever `rgb_range` is, so at 255 the network
    sees colours that are not centred.
    """
    network = DRLN(n_feats=n_feats, groups=groups, scale=scale, reduction=reduction)
    load_network(network, weights)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds, rgb_range=rgb_range)
