"""DDPM++ of score_sde (Song et al. 2021): the CIFAR-10 network of DiffPure and of the paper.

The official class is `NCSNpp` with BigGAN residual blocks, positional time embedding and no
progressive growing; state-dict keys are its own. It is trained on continuous time and told 999 t;
its output is the noise, since score = -output / std.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.errors import UserError
from puriflow.fitting import check_multiple
from puriflow.options import (
    Blocks,
    EvenChannels,
    Fraction,
    Multiples,
    Precision,
    Resolutions,
    Side,
    Text,
)
from puriflow.zoo.weights import load_network


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at least four channels a group, at most 32 groups."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def resampled(x: Tensor, resample: str) -> Tensor:
    """Images (N, C, H, W) `down` by their mean, `up` by nearest neighbour, or as they are."""
    if resample == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2, mode="nearest") if resample == "up" else x


class ResidualBlock(nn.Module):
    """BigGAN's residual block: two convolutions that may also halve or double the resolution."""

    def __init__(self, inputs: int, outputs: int, embedding: int, *, resample: str, dropout: float):
        super().__init__()
        self.resample = resample
        self.dropout = dropout
        self.GroupNorm_0 = norm(inputs)
        self.Conv_0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, outputs)
        self.GroupNorm_1 = norm(outputs)
        self.Conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs or resample != "none":
            self.Conv_2 = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.Conv_0(resampled(F.silu(self.GroupNorm_0(x)), self.resample))
        h = h + self.Dense_0(F.silu(embedding))[:, :, None, None]
        h = F.dropout(F.silu(self.GroupNorm_1(h)), self.dropout, self.training)
        x = resampled(x, self.resample)
        if hasattr(self, "Conv_2"):
            x = self.Conv_2(x)
        return (x + self.Conv_1(h)) / math.sqrt(2)


class NIN(nn.Module):
    """The official 1x1 "network in network", whose weight is [in, out]."""

    def __init__(self, channels: int):
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, channels))
        self.b = nn.Parameter(torch.zeros(channels))
        nn.init.xavier_uniform_(self.W)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class Attention(nn.Module):
    """Single-head self-attention over all pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.GroupNorm_0 = norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (NIN(channels) for _ in range(4))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        pixels = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        q, k, v = self.NIN_0(pixels), self.NIN_1(pixels), self.NIN_2(pixels)
        h = F.scaled_dot_product_attention(q, k, v)
        return (x + self.NIN_3(h).transpose(1, 2).reshape(x.shape)) / math.sqrt(2)


class DDPMpp(nn.Module):
    """The network, as one flat list of modules like the official one.

    Args:
        image_size: of the images; decides at which levels there is attention.
        channel_mult: width of each level, in units of `channels`.
        num_res_blocks: of each level on the way down (one more on the way up).
        attn_resolutions: sides of the feature maps that get attention.
        num_scales: length of the official buffer `sigmas`, which nothing uses.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        num_res_blocks: int = 8,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.1,
        num_scales: int = 1000,
    ):
        super().__init__()
        check_levels(image_size, len(channel_mult))
        self.channels, self.multiple = channels, 2 ** (len(channel_mult) - 1)
        sigmas = np.exp(np.linspace(np.log(50), np.log(0.01), num_scales))
        self.register_buffer("sigmas", torch.tensor(sigmas))
        width = 4 * channels
        self.all_modules = nn.ModuleList([nn.Linear(channels, width), nn.Linear(width, width)])
        self.all_modules.append(nn.Conv2d(3, channels, 3, padding=1))
        # Which of the flat list's modules make one step; each step down leaves a skip, and the
        # steps up of the second list take one.
        self.down: list[range] = []
        self.up: list[tuple[bool, range]] = []

        def step(*modules: nn.Module) -> range:
            self.all_modules.extend(modules)
            return range(len(self.all_modules) - len(modules), len(self.all_modules))

        def block(inputs: int, outputs: int, resample: str = "none") -> ResidualBlock:
            return ResidualBlock(inputs, outputs, width, resample=resample, dropout=dropout)

        in_ch, skips = channels, [channels]
        for level, mult in enumerate(channel_mult):
            out_ch, attended = channels * mult, image_size >> level in attn_resolutions
            for _ in range(num_res_blocks):
                modules: list[nn.Module] = [block(in_ch, out_ch)]
                if attended:
                    modules.append(Attention(out_ch))
                self.down.append(step(*modules))
                in_ch = out_ch
                skips.append(in_ch)
            if level < len(channel_mult) - 1:
                self.down.append(step(block(in_ch, in_ch, "down")))
                skips.append(in_ch)
        self.up.append((False, step(block(in_ch, in_ch), Attention(in_ch), block(in_ch, in_ch))))
        for level, mult in reversed(list(enumerate(channel_mult))):
            out_ch = channels * mult
            for _ in range(num_res_blocks + 1):
                self.up.append((True, step(block(in_ch + skips.pop(), out_ch))))
                in_ch = out_ch
            if image_size >> level in attn_resolutions:
                self.up.append((False, step(Attention(in_ch))))
            if level:
                self.up.append((False, step(block(in_ch, in_ch, "up"))))
        self.all_modules.extend([norm(in_ch), nn.Conv2d(in_ch, 3, 3, padding=1)])

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predict the noise in x (N, 3, H, W) on [-1, 1] at timesteps (N,), 0 to 999."""
        check_multiple("ddpmpp", x, self.multiple)
        modules = self.all_modules
        embedding = positional_embedding(timesteps, self.channels)
        embedding = modules[1](F.silu(modules[0](embedding)))
        h = modules[2](x)
        skips = [h]
        for step in self.down:
            for index in step:
                h = modules[index](h, embedding)
            skips.append(h)
        for takes_skip, step in self.up:
            if takes_skip:
                h = torch.cat([h, skips.pop()], dim=1)
            for index in step:
                h = modules[index](h, embedding)
        return modules[-1](F.silu(modules[-2](h)))


def positional_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """Sines, then cosines, of the timesteps (N,) at frequencies 1 to 1/10000."""
    half = channels // 2
    timesteps = timesteps.to(torch.promote_types(timesteps.dtype, torch.float32))
    exponents = torch.arange(half, dtype=timesteps.dtype, device=timesteps.device) / (half - 1)
    angles = timesteps[:, None] * (1 / 10000) ** exponents[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def check_levels(image_size: int, levels: int) -> None:
    """Refuse a network that would halve its images to nothing."""
    if image_size % 2 ** (levels - 1):
        raise UserError(
            f"image_size {image_size} cannot be halved {levels - 1} times, as the {levels} levels "
            "of channel_mult do"
        )


def build(
    *,
    weights: Text | None,
    image_size: Side = 32,
    channels: EvenChannels = 128,
    channel_mult: Multiples = (1, 2, 2, 2),
    num_res_blocks: Blocks = 8,
    attn_resolutions: Resolutions = (16,),
    dropout: Fraction = 0.1,
    precision: Precision = "float32",
) -> VPDenoiser:
    """DDPM++; the default numbers are those of `cifar10_ddpmpp_deep_continuous`."""
    network = DDPMpp(
        image_size=image_size,
        channels=channels,
        channel_mult=channel_mult,
        num_res_blocks=num_res_blocks,
        attn_resolutions=attn_resolutions,
        dropout=dropout,
    )
    return VPDenoiser(load_network(network, weights), timesteps=999, precision=precision)
