"""Writing one stage: finished batches are kept as they come, and the whole appears at the end."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from puriflow.atomic import Replacing, lock, publish, sha256, write_text
from puriflow.errors import UserError
from puriflow.store.manifest import (
    MANIFEST,
    SCHEMA,
    TIMING,
    Provenance,
    as_text,
    digest,
    files_of,
)
from puriflow.store.reader import Stage, open_stage

BEHIND_RESULTS = False
CHUNK_BYTES = 4 * 2**20  # what a reader reads
SHARD_BYTES = 256 * 2**20  # what a job writes at once, and holds in memory
AXES = {"images": ("channel", "y", "x"), "logits": ("class",), "answers": ("draw", "class")}


class Writer:
    """Writes one stage: batches into the work store, then the whole, atomically.

    Args:
        folder: the stage's directory; it is replaced when the stage is finished.
        name: of the Zarr group, `images` or `logits`.
        labels: int64 (n,), class of each sample.
        indices: int64 (n,), data-set index of each sample.
        provenance: goes into the manifest and the store's attributes, and decides what is resumed.
        machine: goes into the manifest alone.

    Attributes:
        work: folder of the work under way, of this very provenance; removed in the end.

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
        provenance: Provenance,
        machine: Mapping[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.name = name
        self.labels, self.indices = labels, indices
        # With keys that are text alone, as whoever reads them has them.
        self.provenance: Provenance = json.loads(json.dumps(provenance))
        self.machine = dict(machine or {})
        _refuse_strangers(self.folder)
        made_by = json.dumps([self.provenance, indices.tolist(), labels.tolist()], sort_keys=True)
        parent = self.folder.parent / f".{self.folder.name}.work"
        self.work = parent / hashlib.sha256(made_by.encode()).hexdigest()[:16]
        try:
            held = lock(parent / "lock", wait=False)
        except OSError as error:
            raise UserError(f"store {folder} cannot be written: {error.strerror}") from None
        if held is None:
            raise UserError(
                f"store {folder} is being written by another process; wait for it or end it"
            )
        self._lock = held
        for stale in parent.iterdir():  # of other parameters: never to be resumed
            if stale.is_dir() and stale != self.work:
                shutil.rmtree(stale)
        self.work.mkdir(exist_ok=True)
        self.seconds = 0.0

    def done(self) -> set[int]:
        """Positions whose results are kept from an earlier run."""
        return {i for start, stop, _ in self._batches() for i in range(start, stop)}

    def todo(self, size: int) -> list[tuple[int, int]]:
        """Batches that are left to do, by first and last position + 1, none larger than `size`."""
        done = self.done()
        left = [i for i in range(len(self.labels)) if i not in done]
        return [(run[0], run[-1] + 1) for run in batches(left, size)]

    def write(self, start: int, arrays: Mapping[str, np.ndarray], seconds: float) -> None:
        """Keep the results of the samples from `start` on, durably; all must be finite."""
        stop = start + len(next(iter(arrays.values())))
        for name, values in arrays.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise UserError(
                    f"store {self.folder}: {name} has NaN or infinity in {start}..{stop}"
                )
        file = self.work / f"{start:08d}-{stop:08d}.npz"
        content: dict[str, Any] = {**arrays, "seconds": seconds}
        with Replacing(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **content)

    def finish(self, timing: Mapping[str, Any] | None = None) -> Stage:
        """Assemble the store from the batches and put it in place; the manifest comes last."""
        count = len(self.labels)
        missing = sorted(set(range(count)) - self.done())
        if missing:
            raise RuntimeError(f"{len(missing)} samples were not computed, first {missing[0]}")
        building = self.work / f"building-{uuid.uuid4().hex}"
        store = building / f"{self.name}.zarr"
        arrays = self._assemble(store)
        said = {
            "schema": SCHEMA,
            "store": store.name,
            "n": count,
            "arrays": arrays,
            "files": {name: sha256(path) for name, path in files_of(store).items()},
            "machine": self.machine,
            **self.provenance,
        }
        manifest = {**said, "digest": digest(said)}
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        publish(building, self.folder)
        spent = {"seconds": self.seconds, "images": count, **(timing or {})}
        write_text(self.folder / TIMING, as_text(spent))
        write_text(self.folder / MANIFEST, as_text(manifest))
        shutil.rmtree(self.work.parent)
        self.close()
        return open_stage(self.folder, verify=False)

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
        group = zarr.create_group(path, attributes={"puriflow": dict(self.provenance)})
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
            new = slice(max(filled - start, 0), None)
            filled = max(filled, stop)
            for name, part in values.items():
                if name not in arrays:
                    shape = (count, *part.shape[1:])
                    dims = ("sample", *AXES.get(name, ()))
                    arrays[name] = _create(group, name, part.dtype, shape, dims)
                    pending[name] = part[:0]
                pending[name] = np.concatenate([pending[name], part[new]])
            first = next(iter(arrays.values()))
            step = (first.shards or first.shape)[0]
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


def _create(
    group: zarr.Group, name: str, dtype: np.dtype, shape: tuple[int, ...], dims: tuple[str, ...]
) -> zarr.Array:
    """An array with >= 1 MB chunks where it is large, sharded, with a checksum in every chunk."""
    sample = max(int(np.prod(shape[1:])) * dtype.itemsize, 1)
    chunk = min(max(CHUNK_BYTES // sample, 1), max(shape[0], 1))
    per_shard = max(SHARD_BYTES // (sample * chunk), 1)
    shard = chunk * min(per_shard, -(-shape[0] // chunk))
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
        fill_value=float("nan") if np.issubdtype(dtype, np.floating) else 0,
        dimension_names=dims,
        config={"write_empty_chunks": True},
    )
    if name not in ("label", "index"):
        array.attrs["coordinates"] = "label index"  # how xarray learns that they are coordinates
    return array


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
