"""Stores: what a stage leaves behind, and how it is finished, checked and read.

A stage's directory holds `images.zarr` (or whatever its main array is called) and `manifest.json`,
which is written last and names every file with its sha256. Arrays are sharded Zarr v3 with a
checksum in every chunk. Work that is under way lives beside the directory, in `.NAME.work`, where a
killed job finds its finished batches again.
"""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from puriflow.errors import UserError, unknown
from puriflow.provenance import file_hash

SCHEMA = 1
CHUNK_BYTES = 4 * 2**20  # what a reader reads
SHARD_BYTES = 256 * 2**20  # what a job writes at once, and holds in memory
MANIFEST = "manifest.json"
TIMING = "timing.json"
AXES = {
    "images": ("channel", "y", "x"),
    "logits": ("class",),
    "answers": ("draw", "class"),
}


@dataclass(frozen=True)
class Stage:
    """A finished stage: its directory and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def store(self) -> Path:
        """The Zarr group."""
        return self.folder / self.manifest["store"]

    @property
    def count(self) -> int:
        """How many samples it has."""
        return self.manifest["n"]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples `start` to `stop` of an array.

        Raises:
            UserError: the store has no such array.
        """
        if name not in ("label", "index", *self.manifest["arrays"]):
            raise unknown(f"array of store {self.folder}", name, self.manifest["arrays"])
        array = zarr.open_group(self.store, mode="r")[name]
        return np.asarray(array[start:stop])

    @property
    def seconds_per_image(self) -> float | None:
        """Wall time of the stage for an image, where it was kept."""
        file = self.folder / TIMING
        if not file.is_file():
            return None
        timing = json.loads(file.read_text())
        return timing["seconds"] / timing["images"] if timing["images"] else None


def is_stage(path: Path) -> bool:
    """Whether a path is meant as a finished stage: its directory or its manifest."""
    return path.name == MANIFEST or (path / MANIFEST).is_file()


def open_stage(path: str | Path, *, verify: bool = True) -> Stage:
    """Open a finished stage by its directory or its manifest.

    Args:
        path: the directory or the `manifest.json` in it.
        verify: compare every file with the manifest's sha256.

    Raises:
        UserError: there is no manifest, or a file is missing, added or changed.
    """
    path = Path(path)
    folder = path.parent if path.name == MANIFEST else path
    file = folder / MANIFEST
    if not file.is_file():
        what = "has no manifest: it was not finished" if folder.is_dir() else "does not exist"
        raise UserError(f"store {folder} {what}")
    try:
        manifest = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"store {folder}: {MANIFEST} is not JSON: {error}") from None
    if manifest.get("schema") != SCHEMA:
        raise UserError(f"store {folder}: schema {manifest.get('schema')!r}, but {SCHEMA} is known")
    stage = Stage(folder, manifest)
    if verify:
        _verify(stage)
    return stage


def _verify(stage: Stage) -> None:
    expected: Mapping[str, str] = stage.manifest["files"]
    present = _files(stage.store)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            raise UserError(f"store {stage.folder}: {name} is missing; delete the store and rerun")
        if name not in expected:
            raise UserError(f"store {stage.folder}: {name} is not of this store")
        if file_hash(present[name]) != expected[name]:
            raise UserError(f"store {stage.folder}: {name} was damaged; delete the store and rerun")


def _files(store: Path) -> dict[str, Path]:
    return {str(f.relative_to(store)): f for f in sorted(store.rglob("*")) if f.is_file()}


class Writer:
    """Writes one stage: batches into the work store, then the whole, atomically.

    Args:
        folder: the stage's directory; it is replaced when the stage is finished.
        name: of the Zarr group, `images` or `logits`.
        labels: int64 (n,), class of each sample.
        indices: int64 (n,), data-set index of each sample.
        provenance: what made the stage; goes into the manifest and into the store's attributes,
            and decides whether earlier work may be resumed. No times, no host names.

    Raises:
        UserError: the folder holds anything but an earlier store, or another process is writing it.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        *,
        labels: np.ndarray,
        indices: np.ndarray,
        provenance: dict[str, Any],
    ):
        self.folder = Path(folder)
        self.name = name
        self.labels, self.indices = labels, indices
        self.provenance = provenance
        _refuse_strangers(self.folder)
        identity = json.dumps([provenance, indices.tolist(), labels.tolist()], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        parent = work_folder(self.folder)
        self.work = parent / key
        parent.mkdir(parents=True, exist_ok=True)
        self._lock = (parent / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"store {folder} is being written by another process; wait for it or end it"
            ) from None
        for stale in parent.iterdir():  # of other parameters: never to be resumed
            if stale.is_dir() and stale != self.work:
                shutil.rmtree(stale)
        self.work.mkdir(exist_ok=True)
        self.seconds = 0.0

    def done(self) -> set[int]:
        """Positions whose results are kept from an earlier run."""
        return {i for start, stop, _ in self._batches() for i in range(start, stop)}

    def write(self, start: int, arrays: Mapping[str, np.ndarray], seconds: float) -> None:
        """Keep the results of the samples from `start` on, durably."""
        stop = start + len(next(iter(arrays.values())))
        for name, values in arrays.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise UserError(
                    f"store {self.folder}: {name} has NaN or infinity in {start}..{stop}"
                )
        file = self.work / f"{start:08d}-{stop:08d}.npz"
        with Replacing(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **arrays, seconds=seconds)

    def finish(self, timing: dict[str, Any] | None = None) -> Stage:
        """Assemble the store from the batches and put it in place; the manifest comes last."""
        count = len(self.labels)
        missing = sorted(set(range(count)) - self.done())
        if missing:
            raise RuntimeError(f"{len(missing)} samples were not computed, first {missing[0]}")
        building = self.work / f"building-{uuid.uuid4().hex}"
        store = building / f"{self.name}.zarr"
        arrays = self._assemble(store)
        manifest = {
            "schema": SCHEMA,
            "store": store.name,
            "n": count,
            "arrays": arrays,
            "files": {name: file_hash(path) for name, path in _files(store).items()},
            **self.provenance,
        }
        sync_tree(building)
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        os.rename(building, self.folder)
        _sync(self.folder.parent)
        # Timings are beside the manifest, never in it: they differ from run to run.
        spent = {"seconds": self.seconds, "images": count, **(timing or {})}
        _write_json(self.folder / TIMING, spent)
        _write_json(self.folder / MANIFEST, manifest)
        shutil.rmtree(self.work.parent)
        self.close()
        return Stage(self.folder, manifest)

    def close(self) -> None:
        """Let another process write the store; what was written is kept."""
        self._lock.close()

    def _batches(self) -> list[tuple[int, int, Path]]:
        found = []
        for file in sorted(self.work.glob("*.npz")):
            start, stop = file.stem.split("-")
            found.append((int(start), int(stop), file))
        return found

    def _assemble(self, path: Path) -> dict[str, dict[str, Any]]:
        """Write every array, a shard at a time; samples may come from overlapping batches."""
        group = zarr.create_group(path, attributes={"puriflow": self.provenance})
        count = len(self.labels)
        _create(group, "label", self.labels.dtype, (count,), ("sample",))[:] = self.labels
        _create(group, "index", self.indices.dtype, (count,), ("sample",))[:] = self.indices
        arrays: dict[str, zarr.Array] = {}
        pending: dict[str, np.ndarray] = {}
        written = filled = 0
        for start, stop, file in self._batches():
            with np.load(file) as batch:
                self.seconds += float(batch["seconds"])
                values = {name: batch[name] for name in batch.files if name != "seconds"}
            fresh = slice(max(filled - start, 0), None)
            filled = max(filled, stop)
            for name, part in values.items():
                if name not in arrays:
                    shape = (count, *part.shape[1:])
                    dims = ("sample", *AXES.get(name, ()))
                    arrays[name] = _create(group, name, part.dtype, shape, dims)
                    pending[name] = part[:0]
                pending[name] = np.concatenate([pending[name], part[fresh]])
            step = _shard_length(next(iter(arrays.values())))
            while filled - written >= step or (filled == count and written < count):
                length = min(step, count - written)
                for name, array in arrays.items():
                    array[written : written + length] = pending[name][:length]
                    pending[name] = pending[name][length:]
                written += length
        return {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in arrays.items()
        }


def work_folder(folder: Path) -> Path:
    """Where the work on a stage's directory lives until it is finished."""
    return folder.parent / f".{folder.name}.work"


def _refuse_strangers(folder: Path) -> None:
    """A store replaces its folder: make sure that only a store is lost."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, not the folder of a store")
    own = {MANIFEST, TIMING, ".snakemake_timestamp"}
    strangers = [f.name for f in folder.iterdir() if f.name not in own and f.suffix != ".zarr"]
    if strangers:
        raise UserError(
            f"{folder} holds {strangers[0]!r}, which is not of a store: name a new folder"
        )


def _shard_length(array: zarr.Array) -> int:
    return array.shards[0] if array.shards else array.shape[0]


def _create(
    group: zarr.Group, name: str, dtype: np.dtype, shape: tuple[int, ...], dims: tuple[str, ...]
) -> zarr.Array:
    """An array with >= 1 MB chunks where it is large, sharded, with a checksum in every chunk."""
    sample = max(int(np.prod(shape[1:])) * dtype.itemsize, 1)
    chunk = min(max(CHUNK_BYTES // sample, 1), max(shape[0], 1))
    per_shard = max(SHARD_BYTES // (sample * chunk), 1)
    shard = chunk * min(per_shard, -(-shape[0] // chunk))
    floating = np.issubdtype(dtype, np.floating)
    array = group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=[
            BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=dtype.itemsize),
            # Without it, flipped bits of barely compressible data come back as wrong numbers.
            Crc32cCodec(),
        ],
        fill_value=float("nan") if floating else 0,
        dimension_names=dims,
        config={"write_empty_chunks": True},
    )
    if name not in ("label", "index"):
        array.attrs["coordinates"] = "label index"  # how xarray learns that they are coordinates
    return array


class Replacing:
    """A temporary sibling that takes the place of `path` when all went well."""

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            _sync(self.temporary)
            os.replace(self.temporary, self.path)
            _sync(self.path.parent)
        else:
            self.temporary.unlink(missing_ok=True)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with Replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def batches(positions: list[int], size: int) -> Iterator[list[int]]:
    """Cut sorted positions into runs of neighbours, none longer than `size`."""
    run: list[int] = []
    for position in positions:
        if run and (len(run) == size or position != run[-1] + 1):
            yield run
            run = []
        run.append(position)
    if run:
        yield run
