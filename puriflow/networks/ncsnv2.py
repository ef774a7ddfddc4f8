"""NCSNv2 (Song and Ermon 2020): a score network that is told no noise level, ADP's for CIFAR-10.

A RefineNet of images on [-1, 1] plus noise of any sigma. Its output is what it takes for the noise,
with the other sign: sigma times the score, so that one output serves all levels. Keys are those of
the released code; no official checkpoint was at hand to prove them against.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import SigmaDenoiser, append_dims
from puriflow.fitting import check_multiple
from puriflow.options import Channels, Precision, Text
from puriflow.zoo.weights import load_network

Pooling = Literal["max", "average"]


def conv(inputs: int, outputs: int, *, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


class InstanceNormPlus(nn.Module):
    """InstanceNorm++ (Song and Ermon 2019, Appendix A.1): it keeps how channel means compare."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.randn(channels) * 0.02 + 1)
        self.gamma = nn.Parameter(torch.randn(channels) * 0.02 + 1)
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # whatever products are computed in
        means = x.mean((2, 3))
        centred = means - means.mean(1, keepdim=True)
        compared = centred / (means.var(1, keepdim=True) + 1e-5).sqrt()
        # by hand: torch's own has a wrong gradient of one image whose channels lie side by side
        variance = x.var((2, 3), correction=0)
        h = (x - means[:, :, None, None]) / (variance + 1e-5).sqrt()[:, :, None, None]
        h = h + (compared * self.alpha)[:, :, None, None]
        return self.gamma[:, None, None] * h + self.beta[:, None, None]


class ConvMeanPool(nn.Module):
    """A convolution, and the mean of each two by two."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(x), 2)


class ResidualBlock(nn.Module):
    """Two normalised convolutions; going down, dilation takes the place of halving."""

    def __init__(self, inputs: int, outputs: int, *, down: bool = False, dilation: int = 1):
        super().__init__()
        inner = inputs if down else outputs
        self.normalize1, self.normalize2 = InstanceNormPlus(inputs), InstanceNormPlus(inner)
        self.conv1 = conv(inputs, inner, dilation=dilation)
        halved = down and dilation == 1
        self.conv2: nn.Module = conv(inner, outputs, dilation=dilation)
        if halved:
            self.conv2 = ConvMeanPool(inner, outputs, 3)
        self.shortcut: nn.Module | None = None
        if down:
            self.shortcut = conv(inputs, outputs, dilation=dilation)
        if halved:
            self.shortcut = ConvMeanPool(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.elu(self.normalize1(x)))
        h = self.conv2(F.elu(self.normalize2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class RCU(nn.Module):
    """Residual convolution units: so many times two convolutions."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        self.blocks = range(1, blocks + 1)
        for i in self.blocks:
            for j in (1, 2):
                self.add_module(f"{i}_{j}_conv", conv(channels, channels, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        for i in self.blocks:
            first, second = (self.get_submodule(f"{i}_{j}_conv") for j in (1, 2))
            x = x + second(F.elu(first(F.elu(x))))
        return x


class MSF(nn.Module):
    """Multi-resolution fusion: the sum of convolved maps, at the size of the largest."""

    def __init__(self, inputs: Sequence[int], outputs: int):
        super().__init__()
        self.convs = nn.ModuleList(conv(channels, outputs) for channels in inputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        side = maps[0].shape[-2:]  # the first is from the way down, and at least as large
        resized = [
            F.interpolate(one(x), side, mode="bilinear", align_corners=True)
            for one, x in zip(self.convs, maps, strict=True)
        ]
        return torch.stack(resized).sum(0)


class CRP(nn.Module):
    """Chained residual pooling, twice."""

    def __init__(self, channels: int, pooling: Pooling):
        super().__init__()
        self.convs = nn.ModuleList(conv(channels, channels, bias=False) for _ in range(2))
        self.pool = {"max": F.max_pool2d, "average": F.avg_pool2d}[pooling]

    def forward(self, x: Tensor) -> Tensor:
        x = path = F.elu(x)
        for one in self.convs:
            path = one(self.pool(path, 5, stride=1, padding=2))
            x = x + path
        return x


class RefineBlock(nn.Module):
    """Maps of the way down and of the block below, refined to one."""

    def __init__(self, inputs: Sequence[int], outputs: int, *, pooling: Pooling, end: bool = False):
        super().__init__()
        self.adapt_convs = nn.ModuleList(RCU(channels, 2) for channels in inputs)
        self.msf = MSF(inputs, outputs) if len(inputs) > 1 else None
        self.crp = CRP(outputs, pooling)
        self.output_convs = RCU(outputs, 3 if end else 1)

    def forward(self, *maps: Tensor) -> Tensor:
        adapted = [one(x) for one, x in zip(self.adapt_convs, maps, strict=True)]
        h = adapted[0] if self.msf is None else self.msf(adapted)
        return self.output_convs(self.crp(h))


class NCSNv2(nn.Module):
    """x0 + sigma eps on [-1, 1] (N, 3, H, W) to an estimate of -eps, the same shape.

    Args:
        ngf: channels of its first level; 128 in the release.
        pooling: of its refinement: `max` in the released code, `average` in the text of NCSN.
    """

    def __init__(self, *, ngf: int, pooling: Pooling):
        super().__init__()
        wide = 2 * ngf
        self.begin_conv, self.normalizer = conv(3, ngf), InstanceNormPlus(ngf)
        self.end_conv = conv(ngf, 3)
        self.res1 = nn.Sequential(ResidualBlock(ngf, ngf), ResidualBlock(ngf, ngf))
        self.res2 = nn.Sequential(ResidualBlock(ngf, wide, down=True), ResidualBlock(wide, wide))
        self.res3, self.res4 = (
            nn.Sequential(
                ResidualBlock(wide, wide, down=True, dilation=dilation),
                ResidualBlock(wide, wide, dilation=dilation),
            )
            for dilation in (2, 4)
        )
        self.refine1 = RefineBlock([wide], wide, pooling=pooling)
        self.refine2 = RefineBlock([wide, wide], wide, pooling=pooling)
        self.refine3 = RefineBlock([wide, wide], ngf, pooling=pooling)
        self.refine4 = RefineBlock([ngf, ngf], ngf, pooling=pooling, end=True)

    def forward(self, x: Tensor) -> Tensor:
        check_multiple("ncsnv2", x, 2)
        first = self.res1(self.begin_conv(x))
        second = self.res2(first)
        third = self.res3(second)
        h = self.refine1(self.res4(third))
        h = self.refine4(first, self.refine3(second, self.refine2(third, h)))
        return self.end_conv(F.elu(self.normalizer(h)))


class Unconditional(nn.Module):
    """D(x; sigma) = x + sigma s(x), by a network s that is not told sigma."""

    def __init__(self, model: NCSNv2):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x + append_dims(sigma, x) * self.model(x).to(x.dtype)


def build(
    *,
    weights: Text | None,
    ngf: Channels = 128,
    pooling: Literal["max", "average"] = "max",
    precision: Precision = "float32",
) -> SigmaDenoiser:
    """NCSNv2 as a denoiser; the default numbers are those of the released code for CIFAR-10."""
    network = Unconditional(NCSNv2(ngf=ngf, pooling=pooling))
    return SigmaDenoiser(load_network(network, weights), precision=precision)
