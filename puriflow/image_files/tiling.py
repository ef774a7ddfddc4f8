"""Images of any size for networks that want some: padded by reflection, or cut into tiles.

A network halves its image up to five times (ADM), so sizes are brought to a multiple of 32. An
image that is larger than what the networks see in the tables is computed in tiles of at most 256
pixels, so that memory stays bounded; tiles overlap, and are blended where they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MULTIPLE = 32
SIDE = 256


@dataclass(frozen=True)
class Axis:
    """One axis of an image in equal pieces, each (`size`) a multiple of 32.

    Attributes:
        length: pixels of the image.
        side: the longest piece.
    """

    length: int
    side: int

    @property
    def overlap(self) -> int:
        """The pixels, at least, that two neighbours share."""
        return self.side // 8

    @cached_property
    def count(self) -> int:
        """How many pieces."""
        if self.length <= self.side:
            return 1
        return -(-(self.length - self.overlap) // (self.side - self.overlap))

    @cached_property
    def size(self) -> int:
        """Pixels of every piece."""
        least = -(-(self.length + (self.count - 1) * self.overlap) // self.count)
        return -(-least // MULTIPLE) * MULTIPLE

    @cached_property
    def starts(self) -> list[int]:
        """Where the pieces start; below 0 for the one piece of an axis that is padded."""
        room = self.length - self.size
        if self.count == 1:
            return [-(-room // 2)]
        return [room * i // (self.count - 1) for i in range(self.count)]

    def source(self, start: int) -> np.ndarray:
        """The pixels (size,) of a piece; beyond the border, those that a mirror would show."""
        if self.length == 1:
            return np.zeros(self.size, dtype=np.int64)
        period = 2 * self.length - 2
        places = np.abs(np.arange(start, start + self.size)) % period
        return np.minimum(places, period - places)

    def inside(self, start: int) -> tuple[slice, slice]:
        """What of a piece lies in the image: where in the piece, and where in the image."""
        first, last = max(start, 0), min(start + self.size, self.length)
        return slice(first - start, last - start), slice(first, last)

    def weight(self) -> np.ndarray:
        """How much each pixel of a piece counts: float32 (size,), falling towards neighbours."""
        if self.count == 1:
            return np.ones(self.size, dtype=np.float32)
        place = np.arange(self.size, dtype=np.float32)
        near = np.minimum(place + 1, self.size - place)
        return np.minimum(near / self.overlap, 1)


@dataclass(frozen=True)
class Tiling:
    """The pieces in which an image is computed; one piece if it is not large."""

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        """How many pieces."""
        return self.rows.count * self.columns.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Row and column at which each piece starts."""
        return ((top, left) for top in self.rows.starts for left in self.columns.starts)

    def said(self) -> str:
        """What is done to the size, in words; empty where nothing is."""
        size = f"{self.columns.size}x{self.rows.size}"
        padded = any(axis.size > axis.length for axis in (self.rows, self.columns))
        if self.count > 1:
            padding = ", padded by reflection" if padded else ""
            return f"{self.count} tiles of {size}{padding}, blended where they overlap"
        return f"padded by reflection to {size}, and cropped back" if padded else ""


def tiling_of(size: tuple[int, int], resize: int | None) -> Tiling:
    """The pieces of an image.

    Args:
        size: height and width of the image.
        resize: side that the purifier gives every piece (`Purifier.resize`), which is then the
            longest side of a piece, so that nothing loses resolution; None for 256.
    """
    side = -(-(resize or SIDE) // MULTIPLE) * MULTIPLE
    return Tiling(Axis(size[0], side), Axis(size[1], side))
