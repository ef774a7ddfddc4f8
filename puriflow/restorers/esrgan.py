"""ESRGAN's RRDBNet (Wang et al. 2018) in the form of Real-ESRGAN x2, x4 and x8, and its restorer.

The paper's FLOPs (Table 10) match the x2/x4/x8 networks of ai-forever/Real-ESRGAN, whose keys are
used here: x2 folds pixels into channels first, x8 has a third upsampling convolution. So are the
names of its options.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.fitting import check_multiple
from puriflow.options import Blocks, Channels, Downsampler, Rounds, Text, Whole
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU with the official slope."""
    return F.leaky_relu(x, 0.2)


def small_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution of a residual branch, which ESRGAN starts small (its paper, section 3.1)."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight).data.mul_(0.1)
    conv.bias = nn.Parameter(torch.zeros(outputs))
    return conv


class DenseBlock(nn.Module):
    """Five densely connected convolutions, scaled by 0.2 and added to the input."""

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        inputs = [num_feat + i * num_grow_ch for i in range(5)]
        growing = (small_conv(channels, num_grow_ch) for channels in inputs[:4])
        self.conv1, self.conv2, self.conv3, self.conv4 = growing
        self.conv5 = small_conv(inputs[4], num_feat)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            dense = torch.cat([dense, activation(conv(dense))], dim=1)
        return x + 0.2 * self.conv5(dense)


class RRDB(nn.Module):
    """Three dense blocks, scaled by 0.2 and added to the input."""

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        self.rdb1 = DenseBlock(num_feat, num_grow_ch)
        self.rdb2 = DenseBlock(num_feat, num_grow_ch)
        self.rdb3 = DenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The network: RGB in [0, 1] in and out, no clamp; x2 needs even height and width.

    Each convolution of a dense block adds `num_grow_ch` channels to the `num_feat` of the trunk.
    """

    def __init__(self, *, num_feat: int, num_block: int, num_grow_ch: int, scale: int):
        super().__init__()
        self.scale = scale
        inputs = 12 if scale == 2 else 3
        self.conv_first = nn.Conv2d(inputs, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_up2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        if scale == 8:
            self.conv_up3 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        if self.scale == 2:
            check_multiple("esrgan x2", x, 2)
            x = F.pixel_unshuffle(x, 2)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        ups = [self.conv_up1, self.conv_up2] + ([self.conv_up3] if self.scale == 8 else [])
        for up in ups:
            x = activation(up(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(activation(self.conv_hr(x)))


def build(
    *,
    weights: Text | None,
    num_feat: Channels = 64,
    num_block: Blocks = 23,
    num_grow_ch: Channels = 32,
    scale: Annotated[Literal[2, 4, 8], Whole] = 2,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """RRDBNet up, linear downsampler back; the default numbers are the official ones."""
    network = RRDBNet(num_feat=num_feat, num_block=num_block, num_grow_ch=num_grow_ch, scale=scale)
    return UpDown(load_network(network, weights), scale=scale, downsample=downsample, rounds=rounds)
