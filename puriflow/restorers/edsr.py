"""EDSR ("Enhanced Deep Residual Networks for Single Image Super-Resolution", Lim et al. 2017).

The network of EDSR-PyTorch with its state-dict keys and the names of its options, and the restorer
that scales its output back down. MDSR, of the same paper, shares the residual block and the mean
shift found here.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.options import Blocks, Channels, Downsampler, Positive, Rounds, Text, Whole
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, the official constant
RGB_RANGE = 255  # of the official weights
UPSAMPLING = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}  # the shuffles behind each scale


class MeanShift(nn.Conv2d):
    """Add `sign` times the mean colour; a fixed 1x1 convolution, as in the official state dict."""

    def __init__(self, rgb_range: float, sign: int):
        super().__init__(3, 3, kernel_size=1)
        self.weight = nn.Parameter(torch.eye(3).reshape(3, 3, 1, 1))
        self.bias = nn.Parameter(sign * rgb_range * torch.tensor(RGB_MEAN))
        self.requires_grad_(False)


class ResBlock(nn.Module):
    """Convolution, ReLU, convolution, scaled by `res_scale` and added to the input."""

    def __init__(self, n_feats: int, kernel_size: int, res_scale: float = 1.0):
        super().__init__()
        self.res_scale = res_scale
        self.body = nn.Sequential(
            nn.Conv2d(n_feats, n_feats, kernel_size, padding=kernel_size // 2),
            nn.ReLU(),
            nn.Conv2d(n_feats, n_feats, kernel_size, padding=kernel_size // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.body(x)


def upsampler(scale: int, n_feats: int) -> nn.Sequential:
    """Convolutions and pixel shuffles that enlarge by 2, 3, 4 or 8."""
    if scale not in UPSAMPLING:
        raise UserError(
            f"scale {scale}: EDSR and MDSR enlarge by {', '.join(map(str, UPSAMPLING))}"
        )
    layers: list[nn.Module] = []
    for factor in UPSAMPLING[scale]:
        layers.append(nn.Conv2d(n_feats, n_feats * factor**2, 3, padding=1))
        layers.append(nn.PixelShuffle(factor))
    return nn.Sequential(*layers)


class EDSR(nn.Module):
    """The network: RGB in 0 to 255 in and out, no clamp; `res_scale` weighs residual branches."""

    def __init__(self, *, n_resblocks: int, n_feats: int, scale: int, res_scale: float = 1.0):
        super().__init__()
        self.sub_mean = MeanShift(RGB_RANGE, -1)
        self.add_mean = MeanShift(RGB_RANGE, 1)
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 3, padding=1))
        self.body = nn.Sequential(
            *(ResBlock(n_feats, 3, res_scale) for _ in range(n_resblocks)),
            nn.Conv2d(n_feats, n_feats, 3, padding=1),
        )
        self.tail = nn.Sequential(upsampler(scale, n_feats), nn.Conv2d(n_feats, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self.body(x)))


def build(
    *,
    weights: Text | None,
    n_resblocks: Blocks = 16,
    n_feats: Channels = 64,
    scale: Annotated[Literal[2, 3, 4, 8], Whole] = 2,
    res_scale: Positive = 1.0,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """EDSR up, linear downsampler back; the default numbers are the official baseline's."""
    network = EDSR(n_resblocks=n_resblocks, n_feats=n_feats, scale=scale, res_scale=res_scale)
    load_network(network, weights)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds, rgb_range=RGB_RANGE)
