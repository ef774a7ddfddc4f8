"""What every data set is: labelled images that are read one at a time, and subsets of them."""

import hashlib
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puriflow.checksums import file_hashes
from puriflow.errors import UserError, on_disk
from puriflow.options import MOST_SEED, shown


@dataclass(frozen=True)
class Samples:
    """A data set.

    Attributes:
        labels: the class of every image, whole numbers from 0.
        read: of an index, RGB (3, H, W), the same size for all: bytes, or floats in [0, 1].
        fingerprint: changes when the data set does; part of what a store says made it.

    Raises:
        UserError: the labels are something else: names, rows of one-hot labels, fractions.
    """

    labels: Sequence[int]
    read: Callable[[int], np.ndarray]
    fingerprint: str

    def __post_init__(self) -> None:
        check_labels(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """One image, float32 in [0, 1]; a UserError if it is neither of bytes nor of floats."""
        image = np.asarray(self.read(index))
        if image.dtype == np.uint8:
            return image.astype(np.float32) / np.float32(255)
        if image.dtype.kind == "f":
            return image.astype(np.float32)
        raise UserError(
            f"image {index} of the data set is of {image.dtype}, but must be uint8 (0 to 255) or "
            "float ([0, 1])"
        )


def check_labels(labels: Sequence[int]) -> None:
    """Refuse what are no numbers of classes, one for each image."""
    try:
        found = np.asarray(labels)
    except ValueError as error:  # rows of several lengths
        raise UserError(f"labels of a data set are no list of classes: {error}") from None
    if len(labels) and (found.ndim != 1 or found.dtype.kind not in "iu"):
        raise UserError(
            "labels of a data set must be whole numbers from 0, one for each image, but are "
            f"{found.dtype} {found.shape}, of which the first is {shown(labels[0])}"
        )
    if len(wrong := np.flatnonzero(found.astype(np.int64) < 0)):  # as a store has them
        raise UserError(
            f"image {wrong[0]} of the data set has the label {found[wrong[0]]}, but classes count "
            "from 0"
        )


def fingerprint_of(files: Sequence[Path]) -> str:
    """A hash of names (with their folder's) and contents: new when a data set changes.

    A file is read once for as long as it stays as it is (puriflow.checksums).

    Raises:
        UserError: one is no file, or is not there.
    """
    digest = hashlib.sha256()
    for file in files:
        with on_disk(file):
            found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"image {file} cannot be read: it is a folder, a pipe or a device")
    with on_disk(Path()):
        contents = file_hashes(files)
    for file, content in zip(files, contents, strict=True):
        line = f"{file.parent.name}/{file.name} {content}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def first_of(
    samples: Samples, count: int, *, subset: int | None, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first images of a data set's subset: float32 (n, 3, H, W), labels and indices (n,)."""
    indices = chosen_indices(samples, subset=subset, seeds=seeds, shard=0, shards=1)[:count]
    labels = np.asarray(samples.labels, dtype=np.int64)[indices]
    return np.stack([samples.image(int(i)) for i in indices]), labels, indices


def chosen_indices(
    samples: Samples, *, subset: int | None, seeds: Sequence[int], shard: int, shards: int
) -> np.ndarray:
    """Data-set indices of one shard of a fixed random subset.

    The draw is the one that this field uses: RandomState(seed).choice without replacement. With
    several seeds it is the union of as many draws (DiffPure's data seeds), each image once.

    Args:
        samples: the data set.
        subset: how many images are drawn for each seed; None for all of the data set.
        seeds: of the draws.
        shard: counted from 0.
        shards: into how many the subset is cut.

    Returns:
        int64, in the order in which they were drawn.
    """
    if not 0 <= shard < shards:
        raise UserError(
            f"shard {shard}-of-{shards} does not exist: count from 0-of-{max(shards, 1)}"
        )
    if subset is not None and subset < 1:
        raise UserError(f"subset is {subset}, but must be 1 or more")
    if not seeds or min(seeds) < 0 or max(seeds) > MOST_SEED:
        raise UserError(f"seeds are {list(seeds)}, but each must lie between 0 and {MOST_SEED}")
    total = len(samples)
    if subset is None:
        indices = np.arange(total)
    elif subset > total:
        raise UserError(f"a subset of {subset} images was asked for, but the data set has {total}")
    else:
        draws = [np.random.RandomState(s).choice(total, subset, replace=False) for s in seeds]
        joined = np.concatenate(draws)
        indices = joined[np.sort(np.unique(joined, return_index=True)[1])]
    if shards > len(indices):
        raise UserError(f"{shards} shards were asked for, but there are {len(indices)} images")
    return np.array_split(indices, shards)[shard].astype(np.int64)
