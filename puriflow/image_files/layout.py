"""How an array holds images: the order of its axes and the scale of its values.

Both are read off the shape and the type. What could mean two things is refused, never guessed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from puriflow.errors import UserError

SHAPES = "(H, W, 3), (3, H, W), (N, H, W, 3) or (N, 3, H, W)"
BLOCK = 2**24  # bytes of images that are checked at once


@dataclass(frozen=True)
class Layout:
    """The layout of an array of images."""

    shape: tuple[int, ...]
    dtype: np.dtype  # uint8 (0 to 255), or floating point ([0, 1])
    single: bool  # it is one image, without an axis that counts images
    channels_last: bool  # the colours are the last axis

    @property
    def count(self) -> int:
        return 1 if self.single else self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.shape[-3:-1] if self.channels_last else self.shape[-2:]
        return height, width

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, array: Any, start: int, stop: int) -> np.ndarray:
        """Images `start` to `stop` of what numpy can slice: float32 (n, 3, H, W) in [0, 1]."""
        block = np.asarray(array)[None] if self.single else np.asarray(array[start:stop])
        if self.channels_last:
            block = block.transpose(0, 3, 1, 2)
        floats = block.astype(np.float32, order="C")
        return floats / np.float32(255) if self.dtype == np.uint8 else floats

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images (n, 3, H, W) in [0, 1] as the array holds them: (n, ...) of its type."""
        if self.dtype == np.uint8:
            images = (images * 255).round()
        return (images.transpose(0, 2, 3, 1) if self.channels_last else images).astype(self.dtype)

    def concatenate(self, blocks: list[np.ndarray]) -> np.ndarray:
        """All images, as `encode` made them block by block, as one array of this layout."""
        # `concatenate` alone would drop the order of the bytes.
        return blocks[0][0] if self.single else np.concatenate(blocks, dtype=self.dtype)

    def check(self, array: Any, where: str) -> None:
        """Check every value; a UserError if one is NaN, infinite or outside [0, 1]."""
        step = max(BLOCK * self.count // self.nbytes, 1)
        for start in range(0, self.count, step):
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
                images = self.read(array, start, min(start + step, self.count))
            if not np.isfinite(images).all():
                raise UserError(f"{where} has NaN or infinity")
            if images.min() < 0 or images.max() > 1:
                raise UserError(
                    f"{where}: floats must lie in [0, 1], but span {images.min():.4g} to "
                    f"{images.max():.4g}; rescale them, or give uint8"
                )


def layout_of(shape: Sequence[int], dtype: np.dtype, where: str) -> Layout:
    """The layout of an array; a UserError if it has no images, or could have them in two ways."""
    shape = tuple(shape)
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise UserError(f"{where} is of {dtype}, but must be uint8 (0 to 255) or float ([0, 1])")
    first = len(shape) in (3, 4) and shape[-3] == 3
    last = len(shape) in (3, 4) and shape[-1] == 3
    if not first and not last:
        raise UserError(f"{where} has shape {shape}, which is not {SHAPES}")
    if 0 in shape:
        raise UserError(f"{where} has shape {shape}: there are no images in it")
    if first and last:
        raise UserError(
            f"{where} has shape {shape}, in which either axis could be the colours; "
            "images of 3 pixels must be padded first"
        )
    return Layout(shape, np.dtype(dtype), single=len(shape) == 3, channels_last=last)
