"""SPAN ("Swift Parameter-free Attention Network for Efficient Super-Resolution", Wan et al. 2024).

The network as it is run, and as ncnn's files have it: each of the official convolutions of three
branches is merged into one.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.options import Channels, Downsampler, Rounds, Text, Whole
from puriflow.restorers.edsr import RGB_MEAN, RGB_RANGE
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network

BLOCKS = 6


def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size of an image."""
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


class SPAB(nn.Module):
    """Three convolutions, whose output is also the attention: an odd function of it, no weights."""

    def __init__(self, channels: int):
        super().__init__()
        self.c1_r = conv(channels, channels)
        self.c2_r = conv(channels, channels)
        self.c3_r = conv(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its features behind the first convolution (N, C, H, W)."""
        first = F.silu(self.c1_r(x))
        out = self.c3_r(F.silu(self.c2_r(first)))
        return (out + x) * (torch.sigmoid(out) - 0.5), first


class SPAN(nn.Module):
    """The network: RGB in [0, 1] in and out, no clamp."""

    def __init__(self, *, feature_channels: int, scale: int):
        super().__init__()
        self.register_buffer("mean", torch.tensor(RGB_MEAN).reshape(3, 1, 1))
        self.conv_1 = conv(3, feature_channels)
        self.blocks = nn.Sequential(*(SPAB(feature_channels) for _ in range(BLOCKS)))
        self.conv_2 = conv(feature_channels, feature_channels)
        self.conv_cat = conv(4 * feature_channels, feature_channels, 1)
        self.upsampler = nn.Sequential(conv(feature_channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        x = start = self.conv_1((x - self.mean) * RGB_RANGE)
        outputs, firsts = [], []
        for block in self.blocks:
            x, first = block(x)
            outputs.append(x)
            firsts.append(first)
        kept = [start, self.conv_2(x), outputs[0], firsts[-1]]
        return self.upsampler(self.conv_cat(torch.cat(kept, dim=1)))


def build(
    *,
    weights: Text | None,
    feature_channels: Channels = 48,
    scale: Annotated[Literal[2, 4], Whole] = 2,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """SPAN up, linear downsampler back; the default numbers are those of the official small one."""
    network = SPAN(feature_channels=feature_channels, scale=scale)
    return UpDown(load_network(network, weights), scale=scale, downsample=downsample, rounds=rounds)
