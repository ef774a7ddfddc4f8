"""How a photograph becomes the low-resolution input of a super-resolution net in training.

`bicubic` is the clean pair that EDSR, MDSR and DRLN were trained on. `real` follows Real-ESRGAN
(Wang et al. 2021): rounds of blur, resize, Gaussian or Poisson noise and JPEG compression. What a
net was trained on decides whether it purifies: only the second kind has learnt to remove noise.
"""

import io
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import AfterValidator, BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from puriflow.options import Fraction, Positive

Number = Annotated[float, Field(ge=0, le=255)]
Range = tuple[Number, Number]


def _of_255(sigmas: tuple[float, float]) -> tuple[float, float]:
    if 0 < sigmas[1] < 1:
        raise ValueError(f"is out of 255, as [1, 20] is, but its largest is {sigmas[1]:g}")
    return sigmas


Noise = Annotated[Range, AfterValidator(_of_255)]
Quality = Annotated[float, Field(ge=1, le=100)]


class Round(BaseModel, extra="forbid", frozen=True):
    """One round of the `real` degradation; every number is drawn uniformly from its range.

    The defaults are milder than Real-ESRGAN's first round (in brackets), since a purifier must
    keep an ImageNet-sized image recognisable.
    """

    blur: Range = (0.2, 1.0)  # Gaussian sigma in pixels, each axis its own [0.2, 3]
    resize: tuple[Positive, Positive] = (0.6, 1.2)  # factor of the photograph's size [0.15, 1.5]
    gaussian: Noise = (1, 20)  # sigma out of 255 [1, 30]
    poisson: Range = (0.05, 2)  # scale of the shot noise [0.05, 3]
    grey: Fraction = 0.4  # probability that the three channels share their noise [0.4]
    jpeg: tuple[Quality, Quality] = (50, 95)  # quality [30, 95]


def bicubic(photos: Tensor, scale: int) -> Tensor:
    """Shrink (N, 3, H, W) in [0, 1] by `scale` with an antialiased bicubic filter, to 8 bits."""
    size = (photos.shape[-2] // scale, photos.shape[-1] // scale)
    small = F.interpolate(photos, size=size, mode="bicubic", antialias=True)
    return _eight_bits(small)


def real(
    photos: Tensor, scale: int, generator: torch.Generator, rounds: Sequence[Round] = (Round(),)
) -> Tensor:
    """Degrade (N, 3, H, W) in [0, 1] as Real-ESRGAN does and shrink it by `scale`, to 8 bits.

    Within a batch the resize is shared, as in the original; all else is drawn for each image.
    """
    height, width = photos.shape[-2:]
    images = photos
    for r in rounds:
        images = _blur(images, r.blur, generator)
        factor = _uniform(r.resize, generator)
        images = _resize(images, (round(height * factor), round(width * factor)), generator)
        images = _noise(images, r, generator).clamp(0, 1)
        images = _jpeg(images, r.jpeg, generator)
    return _eight_bits(_resize(images, (height // scale, width // scale), generator))


def _eight_bits(images: Tensor) -> Tensor:
    return images.clamp(0, 1).mul(255).round().div(255)


def _uniform(bounds: Range, generator: torch.Generator) -> float:
    return float(torch.empty(()).uniform_(*bounds, generator=generator))


def _blur(images: Tensor, sigma: Range, generator: torch.Generator, radius: int = 6) -> Tensor:
    """Anisotropic Gaussian blur at a random angle, one kernel for each image."""
    n, channels = images.shape[:2]
    axes = torch.empty(n, 2).uniform_(*sigma, generator=generator)
    angle = torch.empty(n).uniform_(0, torch.pi, generator=generator)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = x * cos + y * sin, y * cos - x * sin
    kernel = torch.exp(-0.5 * ((u / axes[:, :1, None]) ** 2 + (v / axes[:, 1:, None]) ** 2))
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(channels, 0)[:, None]
    padded = F.pad(images, [radius] * 4, mode="reflect").flatten(0, 1)[None]
    return F.conv2d(padded, kernel, groups=n * channels).reshape(images.shape)


def _resize(images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    mode = ("area", "bilinear", "bicubic")[int(torch.randint(3, (1,), generator=generator))]
    if mode == "area":
        return F.interpolate(images, size=size, mode=mode)
    return F.interpolate(images, size=size, mode=mode, antialias=True).clamp(0, 1)


def _noise(images: Tensor, r: Round, generator: torch.Generator) -> Tensor:
    n = images.shape[0]

    def draw(bounds: Range) -> Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(*bounds, generator=generator)

    colour = torch.randn(images.shape, generator=generator)
    shared = torch.rand(n, 1, 1, 1, generator=generator) < r.grey
    white = torch.where(shared, colour[:, :1], colour)
    gaussian = draw(r.gaussian) / 255 * white
    # Shot noise of the 8-bit image by its normal approximation, scaled as in Real-ESRGAN.
    poisson = draw(r.poisson) * (images / 255).sqrt() * white
    which = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    return images + torch.where(which, gaussian, poisson)


def _jpeg(images: Tensor, quality: Range, generator: torch.Generator) -> Tensor:
    out = []
    for image in images.mul(255).round().byte().permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        level = round(_uniform(quality, generator))
        Image.fromarray(image).save(buffer, "JPEG", quality=level)
        out.append(torch.from_numpy(np.asarray(Image.open(buffer)).copy()))
    return torch.stack(out).permute(0, 3, 1, 2).float() / 255
