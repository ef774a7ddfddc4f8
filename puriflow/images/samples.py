"""What every data set is: labelled images that are read one at a time, and subsets of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from puriflow.errors import Problem


@dataclass(frozen=True)
class Samples:
    """A data set.

    Attributes:
        labels: the class of every image.
        read: of an index, RGB bytes or float32 in [0, 1], (3, H, W), the same size for all.
    """

    labels: Sequence[int]
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """One image, float32 in [0, 1]."""
        pixels = self.read(index)
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32) / np.float32(255)
        return pixels.astype(np.float32, copy=False)


def chosen_indices(
    samples: Samples, *, subset: int | None, seed: int, shard: int, shards: int
) -> np.ndarray:
    """Data-set indices of one shard of a fixed random subset (all images without `subset`).

    The draw is the one that this field uses: RandomState(seed).choice without replacement.

    Raises:
        Problem: the subset is larger than the data set, or there are more shards than images.
    """
    total = len(samples)
    if subset is None:
        indices = np.arange(total)
    elif subset > total:
        raise Problem(f"a subset of {subset} images was asked for, but the data set has {total}")
    else:
        indices = np.random.RandomState(seed).choice(total, subset, replace=False)
    if shards > len(indices):
        raise Problem(f"{shards} shards were asked for, but there are {len(indices)} images")
    return np.array_split(indices, shards)[shard].astype(np.int64)
