"""JPEG compression as a defence (Dziugaite et al. 2016; Das et al. 2017; Guo et al. 2018).

What is computed is a real JPEG, of the image rounded to 8 bits, written and read by Pillow. Guo et
al. fix the quality at 75, and leave the subsampling of the chroma to Pillow, which is 4:2:0.

An attack goes through it by the identity (BPDA), or by the gradient of the differentiable JPEG of
Shin and Song (2017): ITU-T T.81's transform and tables with a smooth rounding of the coefficients,
and the decoder's triangle filter for the chroma.
"""

import io
from collections.abc import Callable
from math import cos, pi, sqrt
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.options import RoundingGradient, Subsampling, whole
from puriflow.restorers.rounding import rounded, smooth_round

Rounding = Callable[[Tensor], Tensor]

# T.81, Annex K: quantisation at quality 50, a row for each vertical frequency.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99, 99, 99, 99, 99, 99, 99, 99),) * 4,
)
# JFIF: Y, Cb - 128, Cr - 128 of R, G, B on [0, 255]
YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
DCT = [
    [sqrt((1 if k == 0 else 2) / 8) * cos((2 * n + 1) * k * pi / 16) for n in range(8)]
    for k in range(8)
]
SHRINK = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}  # of the chroma, down and across


class JPEG(nn.Module):
    """What a JPEG of an image shows.

    Args:
        quality: as libjpeg counts it, 1 to 100.
        subsampling: of the chroma: `4:4:4`, `4:2:2` or `4:2:0`.
        gradient: `straight-through` or `smooth`.
    """

    def __init__(self, quality: int, subsampling: Subsampling, gradient: RoundingGradient):
        super().__init__()
        self.quality = quality
        self.subsampling: Subsampling = subsampling
        self.gradient: RoundingGradient = gradient

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        return rounded(self.compressed, self.smooth, images, self.gradient)

    def compressed(self, images: Tensor) -> Tensor:
        """The real one, on the CPU."""
        pixels = images.detach().mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        shown = np.stack([self._shown(image) for image in pixels])
        return torch.from_numpy(shown).permute(0, 3, 1, 2).to(images) / 255

    def _shown(self, pixels: np.ndarray) -> np.ndarray:
        """An image (H, W, 3) of bytes, written and read."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(
            file, "JPEG", quality=self.quality, subsampling=self.subsampling
        )
        return np.asarray(Image.open(file))

    def smooth(self, images: Tensor) -> Tensor:
        """The differentiable one."""
        return self.coded(images, smooth_round)

    def coded(self, images: Tensor, rounding: Rounding) -> Tensor:
        """JPEG in torch, without Huffman's code, which loses nothing; a `rounding` of coefficients.

        With the true one it is Pillow's but for the rounding of colours, which is left out.
        """
        height, width = images.shape[-2:]
        matrix = images.new_tensor(YCBCR)
        ycbcr = torch.einsum("ij,njhw->nihw", matrix, images * 255)
        luma = self._plane(ycbcr[:, :1] - 128, LUMA, rounding) + 128
        down, across = SHRINK[self.subsampling]
        small = F.avg_pool2d(_padded(ycbcr[:, 1:], down, across), (down, across))
        chroma = self._plane(small, CHROMA, rounding)
        if self.subsampling != "4:4:4":
            chroma = F.interpolate(chroma, scale_factor=(down, across), mode="bilinear")
        decoded = torch.cat([luma, chroma[..., :height, :width]], dim=1)
        back = torch.linalg.inv(matrix)
        return torch.einsum("ij,njhw->nihw", back, decoded).div(255).clamp(0, 1)

    def _plane(self, plane: Tensor, table: object, rounding: Rounding) -> Tensor:
        """Colours (N, C, H, W) about 0 through transform and quantisation, and back."""
        height, width = plane.shape[-2:]
        dct = plane.new_tensor(DCT)
        steps = self._steps(plane.new_tensor(table))
        blocks = _padded(plane, 8, 8).unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
        coefficients = torch.einsum("ua,nciajb,vb->nciujv", dct, blocks, dct)
        steps = steps[:, None, :]  # beside the axis of blocks across
        kept = rounding(coefficients / steps) * steps
        blocks = torch.einsum("ua,nciujv,vb->nciajb", dct, kept, dct)
        return blocks.flatten(4, 5).flatten(2, 3)[..., :height, :width]

    def _steps(self, table: Tensor) -> Tensor:
        """The table of a quality, by libjpeg's rule."""
        percent = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((table * percent + 50) / 100).floor().clamp(1, 255)


def _padded(planes: Tensor, down: int, across: int) -> Tensor:
    """Planes with their last row and column repeated up to multiples of two sizes."""
    height, width = planes.shape[-2:]
    return F.pad(planes, (0, -width % across, 0, -height % down), mode="replicate")


def build(
    *,
    quality: Annotated[int, whole(1, 100)] = 75,
    subsampling: Subsampling = "4:2:0",
    gradient: RoundingGradient = "straight-through",
) -> JPEG:
    """JPEG by Pillow; `subsampling` is that of the chroma."""
    return JPEG(quality, subsampling, gradient)
