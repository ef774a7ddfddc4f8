"""EDM (Karras et al. 2022): the SongUNet network and its preconditionings.

ScoreOpt purifies CIFAR-10 with EDM's unconditional DDPM++ network, which is a denoiser D(x; sigma)
of VE states on [-1, 1]. Keys are those of the official pickle, which `puriflow zoo convert` turns
into safetensors. `EDMPrecond` and `VPPrecond` scale the same network in two ways.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import SigmaDenoiser, append_dims
from puriflow.diffusion.vp import time_of_sigma
from puriflow.fitting import check_multiple
from puriflow.networks.ddpmpp import check_levels, norm, positional_embedding, resampled
from puriflow.options import (
    Blocks,
    EvenChannels,
    Fraction,
    Multiples,
    Precision,
    Resolutions,
    Side,
    Text,
    whole,
)
from puriflow.zoo.weights import load_network

SKIP_SCALE = math.sqrt(0.5)


class ResampledConv(nn.Conv2d):
    """A convolution behind a halving (mean) or doubling (nearest) of the resolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, resample: str):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.resample = resample
        if resample != "none":  # the official key; what it says is done by `resampled`
            self.register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25))

    # pyrefly: ignore[bad-override-param-name]  # `input` of Conv2d
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(resampled(x, self.resample))


class Block(nn.Module):
    """Residual block with the noise level added in the middle, and maybe self-attention."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        *,
        resample: str = "none",
        attention: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.inputs = inputs
        self.dropout = dropout
        self.norm0 = norm(inputs)
        self.conv0 = ResampledConv(inputs, outputs, 3, resample)
        self.affine = nn.Linear(embedding, outputs)
        self.norm1 = norm(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = None
        if inputs != outputs or resample != "none":
            self.skip = ResampledConv(inputs, outputs, 1, resample)
        self.attention = attention
        if attention:
            self.norm2 = norm(outputs)
            self.qkv = nn.Conv2d(outputs, 3 * outputs, 1)
            self.proj = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        h = F.silu(self.norm1(h + self.affine(embedding)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        h = (h + (x if self.skip is None else self.skip(x))) * SKIP_SCALE
        return (h + self._attended(h)) * SKIP_SCALE if self.attention else h

    def _attended(self, h: Tensor) -> Tensor:
        # The official qkv channels are interleaved: (channel, one of q k v).
        qkv = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (-1, 3))
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(h.shape))


class SongUNet(nn.Module):
    """The network F(x, noise label), in its DDPM++ form.

    Args:
        image_size: of the images; names the levels in the state dict.
        channel_mult: width of each level, in units of `channels`.
        num_blocks: of each level on the way down (one more on the way up).
        attn_resolutions: sides of the feature maps that get attention.
        augment_dim: length of the augmentation labels that the official network was trained with;
            without labels (always, here) they count as zero.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        channels: int = 128,
        channel_mult: Sequence[int] = (2, 2, 2),
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        augment_dim: int = 9,
        dropout: float = 0.13,
    ):
        super().__init__()
        check_levels(image_size, len(channel_mult))
        self.channels, self.multiple = channels, 2 ** (len(channel_mult) - 1)
        width = 4 * channels
        self.map_augment = nn.Linear(augment_dim, channels, bias=False) if augment_dim else None
        self.map_layer0 = nn.Linear(channels, width)
        self.map_layer1 = nn.Linear(width, width)

        block = partial(Block, embedding=width, dropout=dropout)

        self.enc = nn.ModuleDict()
        cin, skips = channels, [channels]
        for level, mult in enumerate(channel_mult):
            side = image_size >> level
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = nn.Conv2d(3, channels, 3, padding=1)
            else:
                self.enc[f"{side}x{side}_down"] = block(cin, cin, resample="down")
                skips.append(cin)
            cout, attention = channels * mult, side in attn_resolutions
            for i in range(num_blocks):
                self.enc[f"{side}x{side}_block{i}"] = block(cin, cout, attention=attention)
                cin = cout
                skips.append(cin)
        self.dec = nn.ModuleDict()
        for level, mult in reversed(list(enumerate(channel_mult))):
            side = image_size >> level
            if level == len(channel_mult) - 1:
                self.dec[f"{side}x{side}_in0"] = block(cin, cin, attention=True)
                self.dec[f"{side}x{side}_in1"] = block(cin, cin)
            else:
                self.dec[f"{side}x{side}_up"] = block(cin, cin, resample="up")
            cout = channels * mult
            for i in range(num_blocks + 1):
                attention = i == num_blocks and side in attn_resolutions
                made = block(cin + skips.pop(), cout, attention=attention)
                self.dec[f"{side}x{side}_block{i}"] = made
                cin = cout
        self.dec[f"{image_size}x{image_size}_aux_norm"] = norm(cin)
        self.dec[f"{image_size}x{image_size}_aux_conv"] = nn.Conv2d(cin, 3, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor, augment: Tensor | None = None) -> Tensor:
        """(N, 3, H, W), noise labels (N,) and maybe augmentation labels to (N, 3, H, W)."""
        check_multiple("edm", x, self.multiple)
        embedding = positional_embedding(labels, self.channels).to(self.map_layer0.weight.dtype)
        if augment is not None and self.map_augment is not None:
            embedding = embedding + self.map_augment(augment)
        embedding = F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))))
        skips = []
        for module in self.enc.values():
            x = module(x, embedding) if isinstance(module, Block) else module(x)
            skips.append(x)
        *blocks, last_norm, last_conv = self.dec.values()
        for module in blocks:
            if module.inputs != x.shape[1]:
                x = torch.cat([x, skips.pop()], dim=1)
            x = module(x, embedding)
        return last_conv(F.silu(last_norm(x)))


class Precond(nn.Module, ABC):
    """A denoiser D(x; sigma) = c_skip x + c_out F(c_in x, c_noise) around a network F."""

    def __init__(self, model: SongUNet):
        super().__init__()
        self.model = model

    @abstractmethod
    def scalings(self, sigma: Tensor) -> tuple[Tensor | float, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in and c_noise at sigma (Karras et al. 2022, Eq. 7 and Table 1)."""

    def forward(self, x: Tensor, sigma: Tensor, augment: Tensor | None = None) -> Tensor:
        """The clean image behind x = x0 + sigma eps, (N, 3, H, W); sigma scalar or (N,)."""
        c_skip, c_out, c_in, c_noise = self.scalings(append_dims(sigma, x))
        labels = c_noise.flatten().expand(len(x))
        return c_skip * x + c_out * self.model(c_in * x, labels, augment).to(x.dtype)


class EDMPrecond(Precond):
    """EDM's own scaling; `sigma_data` is the standard deviation of images on [-1, 1]."""

    sigma_data = 0.5

    def scalings(self, sigma: Tensor) -> tuple[Tensor | float, Tensor, Tensor, Tensor]:
        variance = sigma**2 + self.sigma_data**2
        c_out = sigma * self.sigma_data / variance.sqrt()
        return self.sigma_data**2 / variance, c_out, 1 / variance.sqrt(), sigma.log() / 4


class VPPrecond(Precond):
    """The scaling of the VP-SDE, whose network is told 999 t."""

    def scalings(self, sigma: Tensor) -> tuple[Tensor | float, Tensor, Tensor, Tensor]:
        return 1.0, -sigma, 1 / (sigma**2 + 1).sqrt(), 999 * time_of_sigma(sigma)


PRECONDITIONINGS = {"edm": EDMPrecond, "vp": VPPrecond}


def build(
    *,
    weights: Text | None,
    preconditioning: Literal["edm", "vp"] = "edm",
    image_size: Side = 32,
    channels: EvenChannels = 128,
    channel_mult: Multiples = (2, 2, 2),
    num_blocks: Blocks = 4,
    attn_resolutions: Resolutions = (16,),
    augment_dim: Annotated[int, whole(0, 4096)] = 9,
    dropout: Fraction = 0.13,
    precision: Precision = "float32",
) -> SigmaDenoiser:
    """EDM's denoiser; the default numbers are those of `edm-cifar10-32x32-uncond-vp`."""
    model = SongUNet(
        image_size=image_size,
        channels=channels,
        channel_mult=channel_mult,
        num_blocks=num_blocks,
        attn_resolutions=attn_resolutions,
        augment_dim=augment_dim,
        dropout=dropout,
    )
    network = PRECONDITIONINGS[preconditioning](model)
    return SigmaDenoiser(load_network(network, weights), precision=precision)
