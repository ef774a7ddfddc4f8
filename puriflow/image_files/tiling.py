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
LONGEST = 256  # side of a tile


@dataclass(frozen=True)
class Axis:
    """One axis of an image in tiles of equal size, a multiple of 32."""

    length: int  # pixels of the image
    longest: int  # pixels that a tile has at most

    @property
    def overlap(self) -> int:
        """The pixels, at least, that two neighbours share."""
        return self.longest // 8

    @cached_property
    def count(self) -> int:
        if self.length <= self.longest:
            return 1
        return -(-(self.length - self.overlap) // (self.longest - self.overlap))

    @cached_property
    def size(self) -> int:
        """Pixels of every tile."""
        least = -(-(self.length + (self.count - 1) * self.overlap) // self.count)
        return -(-least // MULTIPLE) * MULTIPLE

    @cached_property
    def starts(self) -> list[int]:
        """Where the tiles start; below 0 for the one tile of an axis that is padded."""
        room = self.length - self.size
        if self.count == 1:
            return [-(-room // 2)]
        return [room * i // (self.count - 1) for i in range(self.count)]

    def pixels(self, start: int) -> np.ndarray:
        """The pixels (size,) of a tile; beyond the border, those that a mirror would show."""
        if self.length == 1:
            return np.zeros(self.size, dtype=np.int64)
        period = 2 * self.length - 2
        places = np.abs(np.arange(start, start + self.size)) % period
        return np.minimum(places, period - places)

    def inside(self, start: int) -> tuple[slice, slice]:
        """What of a tile lies in the image: where in the tile, and where in the image."""
        first, last = max(start, 0), min(start + self.size, self.length)
        return slice(first - start, last - start), slice(first, last)

    def window(self) -> np.ndarray:
        """Weight of each pixel of a tile: float32 (size,), falling towards the neighbours."""
        if self.count == 1:
            return np.ones(self.size, dtype=np.float32)
        place = np.arange(self.size, dtype=np.float32)
        near = np.minimum(place + 1, self.size - place)
        return np.minimum(near / self.overlap, 1)


@dataclass(frozen=True)
class Tiling:
    """The tiles in which an image is computed; one tile if it is not large."""

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        return self.rows.count * self.columns.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Row and column at which each tile starts."""
        return ((top, left) for top in self.rows.starts for left in self.columns.starts)

    def cut(self, image: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """The tile (3, h, w) at a corner of an image (3, H, W)."""
        top, left = corner
        return image[:, self.rows.pixels(top)][..., self.columns.pixels(left)]

    def describe(self) -> str:
        """What is done to the size, in words; empty where nothing is."""
        size = f"{self.columns.size}x{self.rows.size}"
        padded = any(axis.size > axis.length for axis in (self.rows, self.columns))
        if self.count > 1:
            padding = ", padded by reflection" if padded else ""
            return f"{self.count} tiles of {size}{padding}, blended where they overlap"
        return f"padded by reflection to {size}, and cropped back" if padded else ""


class Blend:
    """An image made of its tiles, each with less weight the nearer it comes to its neighbour."""

    def __init__(self, tiling: Tiling):
        self.tiling = tiling
        size = (tiling.rows.length, tiling.columns.length)
        self.window = np.outer(tiling.rows.window(), tiling.columns.window())
        self.total, self.weights = np.zeros((3, *size), np.float32), np.zeros(size, np.float32)

    def add(self, tile: np.ndarray, corner: tuple[int, int]) -> None:
        """Add a tile, float32 (3, h, w); sums go by the order, which is that of the tiling."""
        (in_y, y), (in_x, x) = (
            axis.inside(start)
            for axis, start in zip((self.tiling.rows, self.tiling.columns), corner, strict=True)
        )
        self.total[:, y, x] += (tile * self.window)[:, in_y, in_x]
        self.weights[y, x] += self.window[in_y, in_x]

    def image(self) -> np.ndarray:
        """The image, float32 (3, H, W), clamped to [0, 1]."""
        return (self.total / self.weights).clip(0, 1)


def tiling_of(size: tuple[int, int], resize: int | None) -> Tiling:
    """The tiles of an image of this height and width.

    The side that the purifier gives every tile (`Purifier.resize`) is the longest that a tile has,
    so that nothing loses resolution; it is 256 where that is None.
    """
    longest = -(-(resize or LONGEST) // MULTIPLE) * MULTIPLE
    return Tiling(Axis(size[0], longest), Axis(size[1], longest))
