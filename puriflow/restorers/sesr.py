"""SESR, "Collapsible Linear Blocks for Super-Efficient Super Resolution" (Bhardwaj et al. 2022).

Its blocks are linear: a k x k convolution to p channels and a 1x1 convolution back, which are one
k x k convolution of f channels. It is trained in the wide form and stored and run in the narrow
one, of 13,520 numbers and 80 slopes for m = 5. The luma alone goes through the network; the chroma
is enlarged by bicubic interpolation. "Super-Efficient Super Resolution for Fast Adversarial Defense
at the Edge" (2022) defends with it.

No convolution has a bias. Their code leaves that of the inner ones in place and adds it to the
kernel, by which the two forms differ.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.options import Blocks, Channels, Downsampler, Rounds, Text, Whole
from puriflow.restorers.rescaling import UpDown, resized
from puriflow.zoo.weights import load_network

Y = (65.481, 128.553, 24.966)  # of R, G, B on [0, 1], in 255ths; BT.601's, from 16 to 235
BLACK, RANGE = 16, 219


class LinearBlock(nn.Module):
    """A k x k convolution to p channels, then a 1x1 convolution; `residual` adds the input."""

    def __init__(self, inputs: int, outputs: int, k: int, *, p: int, residual: bool):
        super().__init__()
        self.residual = residual
        self.expand = nn.Conv2d(inputs, p, k, padding=k // 2, bias=False)
        self.project = nn.Conv2d(p, outputs, 1, bias=False)
        for conv in (self.expand, self.project):
            nn.init.xavier_uniform_(conv.weight)

    def kernel(self) -> Tensor:
        """The one convolution that it is: weights (outputs, inputs, k, k)."""
        kernel = torch.einsum("op,pihw->oihw", self.project.weight[:, :, 0, 0], self.expand.weight)
        return kernel + nn.init.dirac_(torch.empty_like(kernel)) if self.residual else kernel

    def forward(self, x: Tensor) -> Tensor:
        """By the one convolution, whose gradient goes on to the two: as their training does."""
        return F.conv2d(x, self.kernel(), padding=self.expand.padding)


class SESR(nn.Module):
    """The network of the luma: (N, 1, H, W), about [0, 1], to (N, 1, scale H, scale W).

    Args:
        m: how many blocks of 3x3.
        f: channels between them.
        scale: by which it enlarges.
        p: channels inside a block while it is trained; None for the collapsed form.
    """

    def __init__(self, *, m: int, f: int, scale: int, p: int | None = None):
        super().__init__()
        self.m, self.f, self.scale, self.p = m, f, scale, p

        def block(inputs: int, outputs: int, k: int, *, residual: bool = False) -> nn.Module:
            if p is None:
                return nn.Conv2d(inputs, outputs, k, padding=k // 2, bias=False)
            return LinearBlock(inputs, outputs, k, p=p, residual=residual)

        self.first = block(1, f, 5)
        self.middle = nn.ModuleList(block(f, f, 3, residual=True) for _ in range(m))
        self.slopes = nn.ModuleList(nn.PReLU(f) for _ in range(m))
        self.last = block(f, scale**2, 5)

    def forward(self, y: Tensor) -> Tensor:
        """See the class; no clamp."""
        first = x = self.first(y - 0.5)
        for conv, prelu in zip(self.middle, self.slopes, strict=True):
            x = prelu(conv(x))
        return F.pixel_shuffle(self.last(x + first) + y, self.scale)

    def expanded(self, p: int) -> "SESR":
        """One of its form to be trained, with random weights, on the device of this one."""
        wide = SESR(m=self.m, f=self.f, scale=self.scale, p=p)
        return wide.to(next(self.parameters()).device)

    @torch.no_grad()
    def collapsed(self) -> "SESR":
        """The same function as one convolution a block."""
        if self.p is None:
            return self
        narrow = SESR(m=self.m, f=self.f, scale=self.scale)
        narrow.slopes = self.slopes
        for name, module in self.named_modules():
            if isinstance(module, LinearBlock):
                narrow.get_submodule(name).weight = nn.Parameter(module.kernel())
        return narrow.eval().requires_grad_(False)


class OfLuma(nn.Module):
    """A network of the luma, with bicubic chroma: (N, 3, H, W) to (N, 3, scale H, scale W)."""

    def __init__(self, network: SESR):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """RGB about [0, 1] in and out, no clamp.

        YCbCr is linear: to change the luma alone is to add the same to R, G and B.
        """
        height, width = (self.network.scale * side for side in images.shape[-2:])
        large = resized(images, (height, width), "bicubic", antialias=False)
        more = self.network(luma(images)) - luma(large)
        return large + more * (255 / RANGE)


def luma(images: Tensor) -> Tensor:
    """Y (N, 1, H, W) of RGB (N, 3, H, W) in [0, 1]: from 16/255 to 235/255."""
    weights = images.new_tensor(Y).reshape(1, 3, 1, 1)
    return ((images * weights).sum(1, keepdim=True) + BLACK) / 255


def build(
    *,
    weights: Text | None,
    m: Blocks = 5,
    f: Channels = 16,
    scale: Annotated[Literal[2, 4], Whole] = 2,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """SESR up, collapsed, linear downsampler back; the default is SESR-M5, and m = 11 its M11."""
    network = load_network(OfLuma(SESR(m=m, f=f, scale=scale)), weights)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds)
