"""Writing and reading a store against plain Zarr, and against the bytes alone.

    python benchmarks/against_zarr.py [IMAGES]

200 images of 224x224 (120 MB; the 20 photographs of the mini track, ten times over, with noise of
a hundredth, so that they compress as purified images do). A store is written as a stage does:
batches are kept sealed as they come, assembled into sharded Zarr with a checksum in every chunk,
every file hashed, all of it synchronised to the disk and renamed into place. Plain Zarr is an
array by default (`zarr.create_array(data=...)`), whose files are hashed (sha256) and synchronised
as well where it says so. The bytes alone are a file of numpy, hashed and synchronised. Reading is
of all images; a store is verified before, file by file.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from ratios import Row, in_turns, one_thread, report

from puriflow.atomic import sha256, sync
from puriflow.compute import own_process
from puriflow.config import load_config
from puriflow.stages.base import fill
from puriflow.store import Provenance, Writer, open_stage

COUNT, BATCH, ROUNDS, NOISE = 200, 4, 5, 0.01  # a CPU's batch
MADE_BY: Provenance = {
    "stage": "purify",
    "parameters": {},
    "seed": 0,
    "code": "0" * 64,
    "weights": {},
    "versions": {},
    "upstream": {},
}


def photographs(count: int) -> np.ndarray:
    """Images float32 (count, 3, 224, 224) on [0, 1]."""
    samples = load_config().part("dataset", "imagenet").build()
    whole = np.stack([samples.image(i % len(samples)) for i in range(count)])
    noise = np.random.default_rng(0).normal(0, NOISE, whole.shape)
    return (whole + noise).clip(0, 1).astype(np.float32)


def write_store(folder: Path, images: np.ndarray) -> None:
    """A store as a stage writes it."""
    indices = np.arange(len(images))
    writer = Writer(folder, "images", labels=indices, indices=indices, provenance=MADE_BY)
    fill(writer, lambda start, stop: {"images": images[start:stop]}, batch=BATCH)


def write_zarr(
    folder: Path, images: np.ndarray, *, hashes: bool = False, synchronised: bool = False
) -> None:
    """An array of Zarr by default."""
    zarr.create_array(folder, data=images, overwrite=True)
    for file in sorted(folder.rglob("*")) if hashes else ():
        if file.is_file():
            sha256(file)
    for path in [*folder.rglob("*"), folder] if synchronised else ():
        sync(path)


def write_bytes(folder: Path, images: np.ndarray) -> None:
    """The numbers and nothing else."""
    folder.mkdir(exist_ok=True)
    with (folder / "images.npy").open("wb") as file:
        np.save(file, images)
        file.flush()
        os.fsync(file.fileno())
    sha256(folder / "images.npy")


def read_store(folder: Path) -> np.ndarray:
    """All images of a store, which is verified."""
    return open_stage(folder).read("images")


def read_zarr(folder: Path) -> np.ndarray:
    """All images of an array of Zarr."""
    return np.asarray(zarr.open_array(folder, mode="r")[:])


def read_bytes(folder: Path) -> np.ndarray:
    """All images of a file of numpy."""
    return np.load(folder / "images.npy")


def size(folder: Path) -> float:
    """MB of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main(count: int) -> None:
    """Print and write the ratios."""
    images, below = photographs(count), Path(tempfile.mkdtemp())
    writers: dict[str, Callable[[Path, np.ndarray], None]] = {
        "store": write_store,
        "zarr": write_zarr,
        "zarr, hashed": partial(write_zarr, hashes=True),
        "zarr, hashed, synchronised": partial(write_zarr, hashes=True, synchronised=True),
        "bytes": write_bytes,
    }
    readers = {"store": read_store, "zarr": read_zarr, "bytes": read_bytes}
    try:
        written = in_turns({n: partial(w, below / n, images) for n, w in writers.items()}, ROUNDS)
        read = in_turns({n: partial(r, below / n) for n, r in readers.items()}, ROUNDS)
        sizes = {name: size(below / name) for name in writers}
    finally:
        shutil.rmtree(below)
    rows = [Row(f"write, {n}", written["store"], written[n]) for n in writers if n != "store"]
    rows += [Row(f"read, {n}", read["store"], read[n]) for n in readers if n != "store"]
    rows += [Row(f"size, {n}", sizes["store"], sizes[n], "MB") for n in ("zarr", "bytes")]
    report(__file__, rows, ["numcodecs"], images=count, side=images.shape[-1])


if __name__ == "__main__":
    own_process()  # as every command of ours
    one_thread()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
