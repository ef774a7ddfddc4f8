"""Mustafa et al. 2019, "Image Super-Resolution as a Defense Against Adversarial Attacks".

Wavelet denoising (BayesShrink, soft thresholds in YCbCr), a JPEG, since their script saves what was
denoised as one, and EDSR x2. Then theirs stops: their classifier sees the image of twice the side.
Here, where every stage keeps the size of its images, and attack, purifier and classifier are those
of it, that image is scaled back to the size that it came in, as for every other super-resolution.
So this is not the published defence but its first three steps, followed by what the paper on
purification calls R; numbers of theirs do not stand beside it.

An attack goes through EDSR and R exactly, through the JPEG as its `gradient` says, and through the
wavelets by the identity (BPDA), as through the kind `wavelet`.
"""

from typing import Annotated

from torch import Tensor, nn

from puriflow.options import (
    ON_UNIT,
    Blocks,
    Channels,
    Downsampler,
    Positive,
    RoundingGradient,
    Subsampling,
    Text,
    real,
    whole,
)
from puriflow.restorers import edsr, jpeg
from puriflow.restorers import wavelet as wavelets


class Mustafa(nn.Module):
    """Wavelets, JPEG, and super-resolution back to the image's own size."""

    def __init__(self, denoising: nn.Module, compression: nn.Module, upscaling: nn.Module):
        super().__init__()
        self.denoising, self.compression, self.upscaling = denoising, compression, upscaling

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        if not images.is_meta:  # where costs are counted, which are EDSR's
            images = self.compression(self.denoising(images).to(images.dtype))
        return self.upscaling(images)


def build(
    *,
    weights: Text | None,
    sigma: Annotated[float, real(0, 1, ON_UNIT)] = 0.01,
    wavelet: Text = "db1",
    quality: Annotated[int, whole(1, 100)] = 95,
    subsampling: Subsampling = "4:2:0",
    gradient: RoundingGradient = "straight-through",
    n_resblocks: Blocks = 16,
    n_feats: Channels = 64,
    res_scale: Positive = 1.0,
    downsample: Downsampler = "bicubic",
) -> Mustafa:
    """The three steps and R; `sigma` is the noise's standard deviation on [0, 1].

    They choose sigma from 0, 0.01, ..., 0.04. 95 is the quality with which the matplotlib of their
    day saved, and EDSR's numbers are the official baseline's.
    """
    upscaling = edsr.build(
        weights=weights,
        n_resblocks=n_resblocks,
        n_feats=n_feats,
        res_scale=res_scale,
        downsample=downsample,
    )
    return Mustafa(
        wavelets.build(sigma=sigma, wavelet=wavelet),
        jpeg.build(quality=quality, subsampling=subsampling, gradient=gradient),
        upscaling,
    )
