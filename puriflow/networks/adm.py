"""The ADM U-Net of guided-diffusion ("Diffusion Models Beat GANs", Dhariwal and Nichol 2021).

It is the noise predictor of DiffPure on ImageNet and, at small width, of the mini track.
Module names follow the official state dict, so that the published checkpoints load strictly; every
argument is one that the official constructor has, but for `norm_groups`.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.errors import UserError
from puriflow.fitting import check_multiple
from puriflow.options import (
    Blocks,
    Channels,
    Precision,
    Resolutions,
    Text,
    Whole,
    listed,
    real,
)
from puriflow.zoo.weights import load_network


def timestep_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (N, dim) of timesteps (N,), 0 to 1000: cosines, then sines."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    frequencies = torch.exp(-math.log(10000) * steps / half)
    angles = timesteps[:, None].float() * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))


def downsample(channels: int, use_conv: bool) -> nn.Module:
    """What halves height and width, by a strided convolution or by average pooling."""
    op: nn.Module = nn.Conv2d(channels, channels, 3, 2, 1) if use_conv else nn.AvgPool2d(2)
    return nn.Sequential(OrderedDict(op=op))


def upsample(channels: int, use_conv: bool) -> nn.Module:
    """What doubles height and width by nearest neighbour, and then convolves if asked."""
    nearest: nn.Module = nn.Upsample(scale_factor=2)
    conv: nn.Module = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else nn.Identity()
    return nn.Sequential(OrderedDict(nearest=nearest, conv=conv))


class ResBlock(nn.Module):
    """Two convolutions conditioned on the timestep, with a skip; `resample` scales both paths."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        resample: nn.Module | None = None,
        *,
        emb_channels: int,
        dropout: float,
        scale_shift: bool,
        norm_groups: int,
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )
        emb_out = 2 * out_channels if scale_shift else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, emb_out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h)
        modulation = self.emb_layers(emb)[:, :, None, None].to(h.dtype)
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = torch.addcmul(shift, self.out_layers[0](h), 1 + scale)
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + modulation)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over all positions; `legacy` is the official order of heads and q, k, v."""

    def __init__(self, channels: int, heads: int, *, legacy: bool, norm_groups: int):
        super().__init__()
        self.heads = heads
        self.legacy = legacy
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = x.reshape(n, c, h * w)
        qkv = self.qkv(self.norm(flat))
        # The channel axis holds (head, q|k|v, width) in the legacy order and (q|k|v, head, width)
        # in the new one.
        if self.legacy:
            q, k, v = qkv.reshape(n, self.heads, 3, c // self.heads, h * w).unbind(2)
        else:
            q, k, v = qkv.reshape(n, 3, self.heads, c // self.heads, h * w).unbind(1)
        scale = (c // self.heads) ** -0.25  # on both sides, as officially: for half precision
        scores = (q * scale).transpose(-1, -2) @ (k * scale)  # half precision ends with them
        weights = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32))
        out = v @ weights.transpose(-1, -2)
        return x + self.proj_out(out.reshape(n, c, h * w)).reshape(n, c, h, w)


class TimestepEmbedSequential(nn.ModuleList):
    """Layers run one after another, of which residual blocks also take the timestep embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class ADM(nn.Module):
    """The U-Net; predicts the noise, and with 6 `out_channels` also the variance's interpolation.

    Args:
        out_channels: 3 for the noise alone, 6 with learned variance.
        num_res_blocks: of a level on the way down (one more on the way up).
        attention_resolutions: downsampling factors (1, 2, 4, ...) at which attention is used.
        channel_mult: channels of each level as a multiple of `model_channels`.
        conv_resample: convolve when resampling between levels.
        num_heads: attention heads where `num_head_channels` is -1.
        use_scale_shift_norm: FiLM-like conditioning on the timestep.
        resblock_updown: resample inside residual blocks.
        use_new_attention_order: the order of heads and q, k, v in `qkv`.
        norm_groups: groups of every normalisation (32 in the official code; smaller nets need
            fewer, since with 32 channels a group would be one channel).
    """

    def __init__(
        self,
        *,
        model_channels: int,
        in_channels: int = 3,
        out_channels: int = 3,
        num_res_blocks: int = 1,
        attention_resolutions: Sequence[int] = (),
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4),
        conv_resample: bool = True,
        num_heads: int = 1,
        num_head_channels: int = -1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        norm_groups: int = 32,
    ):
        super().__init__()
        self.model_channels = model_channels
        emb_channels = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, emb_channels),
            nn.SiLU(),
            nn.Linear(emb_channels, emb_channels),
        )

        block = partial(
            ResBlock,
            emb_channels=emb_channels,
            dropout=dropout,
            scale_shift=use_scale_shift_norm,
            norm_groups=norm_groups,
        )

        def attention(channels: int) -> AttentionBlock:
            by_width = num_head_channels != -1
            heads = channels // num_head_channels if by_width else num_heads
            if channels % (num_head_channels if by_width else num_heads):
                of = f"of {num_head_channels} channels" if by_width else f"{num_heads} of them"
                raise UserError(f"{channels} channels make no whole attention heads, {of}")
            return AttentionBlock(
                channels, heads, legacy=not use_new_attention_order, norm_groups=norm_groups
            )

        def level_block(channels: int, out: int, factor: int) -> list[nn.Module]:
            layers: list[nn.Module] = [block(channels, out)]
            return layers + ([attention(out)] if factor in attention_resolutions else [])

        def resampling(how: Callable[[int, bool], nn.Module], channels: int) -> nn.Module:
            if resblock_updown:
                return block(channels, channels, how(channels, False))
            return how(channels, conv_resample)

        widths = [int(mult * model_channels) for mult in channel_mult]
        if min(widths) < 1:
            raise UserError(f"a level of channel_mult {min(channel_mult)} has no channels")
        self.multiple = 2 ** (len(widths) - 1)
        channels = widths[0]
        self.input_blocks = nn.ModuleList(
            [TimestepEmbedSequential([nn.Conv2d(in_channels, channels, 3, padding=1)])]
        )
        skips = [channels]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers = level_block(channels, width, 2**level)
                self.input_blocks.append(TimestepEmbedSequential(layers))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                down = resampling(downsample, channels)
                self.input_blocks.append(TimestepEmbedSequential([down]))
                skips.append(channels)

        self.middle_block = TimestepEmbedSequential(
            [block(channels, channels), attention(channels), block(channels, channels)]
        )

        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(num_res_blocks + 1):
                layers = level_block(channels + skips.pop(), width, 2**level)
                channels = width
                if level and i == num_res_blocks:
                    layers.append(resampling(upsample, channels))
                self.output_blocks.append(TimestepEmbedSequential(layers))

        self.out = nn.Sequential(
            nn.GroupNorm(norm_groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, then the variance values if there are any, (N, out_channels, H, W).

        Args:
            x: (N, C, H, W) on [-1, 1], height and width divisible by 2 ** (levels - 1).
            timesteps: (N,), 0 to 1000; integers for the official checkpoints.
        """
        check_multiple("adm", x, self.multiple)
        emb = timestep_embedding(timesteps, self.model_channels)
        emb = self.time_embed(emb.to(next(self.time_embed.parameters()).dtype))
        skips = []
        h = x
        for module in self.input_blocks:
            h = module(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for module in self.output_blocks:
            h = module(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)


def build(
    *,
    weights: Text | None,
    model_channels: Channels = 256,
    out_channels: Annotated[Literal[3, 6], Whole] = 6,
    num_res_blocks: Blocks = 2,
    attention_resolutions: Resolutions = (8, 16, 32),
    channel_mult: Annotated[
        Sequence[Annotated[float, real(0.01, 64)]], listed(1, 10, "numbers from 0.01 to 64")
    ] = (1, 1, 2, 2, 4, 4),
    conv_resample: bool = True,
    num_heads: Channels = 4,
    num_head_channels: Annotated[Literal[-1], Whole] | Channels = 64,
    use_scale_shift_norm: bool = True,
    resblock_updown: bool = True,
    norm_groups: Channels = 32,
    integer_steps: bool = True,
    precision: Precision = "float32",
) -> VPDenoiser:
    """ADM; the default numbers are those of the published 256x256 unconditional network."""
    network = ADM(
        model_channels=model_channels,
        out_channels=out_channels,
        num_res_blocks=num_res_blocks,
        attention_resolutions=attention_resolutions,
        channel_mult=channel_mult,
        conv_resample=conv_resample,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        use_scale_shift_norm=use_scale_shift_norm,
        resblock_updown=resblock_updown,
        norm_groups=norm_groups,
    )
    network = load_network(network, weights)
    return VPDenoiser(network, integer_steps=integer_steps, precision=precision)
