"""Writing one stage: finished batches are kept as they come, and the whole appears at the end."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from puriflow.atomic import sha256
from puriflow.elsewhere import check_local
from puriflow.errors import UserError, on_disk
from puriflow.store.arrays import create_array, write_arrays
from puriflow.store.manifest import (
    DTYPES,
    MANIFEST,
    SCHEMA,
    TIMING,
    Layout,
    Provenance,
    as_text,
    digest,
    files_of,
    owned,
)
from puriflow.store.reader import Stage, open_stage
from puriflow.store.work import Batch, Work

if TYPE_CHECKING:
    import zarr

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
# Of Snakemake, and of files of ours that a kill left beside their places.
LEFT = re.compile(r"\.snakemake_timestamp|\.(manifest|timing)\.json\.[0-9a-f]{32}\.tmp")


class Writer:
    """Writes one stage: batches into the work store, then the whole, atomically.

    Args:
        folder: the stage's directory; it is replaced when the stage is finished.
        name: of the Zarr group, `images` or `logits`.
        labels: int64 (n,), class of each sample.
        indices: int64 (n,), data-set index of each sample.
        provenance: goes into the manifest and the store's attributes, and decides what is resumed.
        machine: goes into the manifest alone, as it is when the store is finished.

    Attributes:
        work: folder of the work under way, of this very provenance; removed in the end.

    What another process writes is waited for. A store that is there is used, if it is whole and was
    made as this one would be.

    Raises:
        UserError: the folder holds anything but an earlier store, or cannot be written.
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
        self.machine = machine or {}
        made_by = [self.provenance, indices.tolist(), labels.tolist()]
        with on_disk(self.folder):
            check_place(self.folder)
            self._work = Work(Path(os.path.realpath(self.folder)), made_by)
            self._found = self._found_whole()
        self.work = self._work.folder

    def _found_whole(self) -> Stage | None:
        """The store that is there, say by another process, if it is whole and made as this one."""
        if not (self.folder / MANIFEST).is_file():
            return None
        try:
            stage = open_stage(self.folder)
            same = all(stage.manifest.get(key) == made for key, made in self.provenance.items())
            for name, mine in (("label", self.labels), ("index", self.indices)):
                same = same and np.array_equal(stage.read(name), mine)
        except UserError:  # it was given up, or is damaged
            return None
        return stage if same else None

    def done(self) -> set[int]:
        """Positions whose results are kept from an earlier run, or another process has made."""
        if self._found is not None:
            return set(range(len(self.labels)))
        return {i for start, stop in self._work.kept for i in range(start, stop)}

    def todo(self, size: int) -> list[tuple[int, int]]:
        """Batches that are left to do, by first and last position + 1, none larger than `size`."""
        done = self.done()
        left = [i for i in range(len(self.labels)) if i not in done]
        return [(run[0], run[-1] + 1) for run in batches(left, size)]

    def write(self, start: int, arrays: Mapping[str, np.ndarray], seconds: float) -> None:
        """Keep the results of the samples from `start` on, durably; all must be finite numbers."""
        batch = Batch(start, arrays, seconds)
        for name, values in arrays.items():
            where = f"store {self.folder}: {name}"
            if str(values.dtype) not in DTYPES or len(values) != batch.stop - start:
                raise UserError(
                    f"{where} must be {batch.stop - start} rows of numbers in {start}.."
                    f"{batch.stop}, but is {values.dtype} {values.shape}"
                )
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise UserError(f"{where} has NaN or infinity in {start}..{batch.stop}")
        with on_disk(self.work):
            self._work.keep(batch)

    def finish(self, timing: Mapping[str, Any] | None = None) -> Stage:
        """Assemble the store from the batches, and put it in place whole, by one renaming."""
        if self._found is not None:
            log.info(f"store {self.folder} is there: it is used")
            self._work.discard()
            return self._found
        missing = sorted(set(range(len(self.labels))) - self.done())
        if missing:
            raise RuntimeError(f"{len(missing)} samples were not computed, first {missing[0]}")
        with on_disk(self.folder):
            made = self._work.new_folder()
            self._fill(made, timing or {})
            check_place(self.folder)  # somebody may have put something there meanwhile
            self._work.put_in_place(made)
        return open_stage(self.folder, verify=False)

    def close(self) -> None:
        """Let another process write the store; what was written is kept."""
        self._work.close()

    def _fill(self, folder: Path, timing: Mapping[str, Any]) -> None:
        """Make everything that belongs to the store."""
        count, store = len(self.labels), folder / f"{self.name}.zarr"
        arrays, seconds = self._assemble(store)
        said = {
            "schema": SCHEMA,
            "store": store.name,
            "n": count,
            "arrays": arrays,
            "files": {name: sha256(path) for name, path in files_of(store).items()},
            "machine": dict(self.machine),
            **self.provenance,
        }
        spent = {"seconds": seconds, "images": count, **timing}
        (folder / TIMING).write_text(as_text(spent))
        (folder / MANIFEST).write_text(as_text({**said, "digest": digest(said)}))

    def _assemble(self, path: Path) -> tuple[dict[str, Layout], float]:
        """Write every array, a shard at a time; samples may come from overlapping batches.

        Returns their layouts, and the seconds that they took.
        """
        group = write_arrays(path, self.provenance, self.labels, self.indices)
        count, seconds = len(self.labels), 0.0
        arrays: dict[str, zarr.Array] = {}
        pending: dict[str, list[np.ndarray]] = {}  # joined once a shard is full
        written = filled = 0
        for batch in self._work.batches():
            seconds += batch.seconds
            new = slice(max(filled - batch.start, 0), None)
            filled = max(filled, batch.stop)
            for name, part in batch.arrays.items():
                if name not in arrays:
                    arrays[name] = create_array(group, name, part.dtype, (count, *part.shape[1:]))
                    pending[name] = []
                pending[name].append(part[new])
            first = next(iter(arrays.values()))
            step = (first.shards or first.shape)[0]
            while filled - written >= step or (filled == count and written < count):
                length = min(step, count - written)
                for name, array in arrays.items():
                    parts = pending[name]
                    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
                    array[written : written + length] = whole[:length]
                    pending[name] = [whole[length:]]
                written += length
        layouts = {
            name: Layout(shape=list(a.shape), dtype=str(a.dtype)) for name, a in arrays.items()
        }
        return layouts, seconds


def check_place(folder: Path) -> None:
    """A store replaces its folder: make sure that only a store is lost.

    Raises:
        UserError: it is there, and is neither empty nor a store and nothing else; or it could not
            be replaced; or it lies in a store, or behind a folder that is not there.
    """
    check_local(folder, "the new store")
    if folder.is_symlink():
        raise UserError(f"{folder} is a link: name the folder that it leads to, or another one")
    whole = Path(os.path.realpath(folder))
    if ".." in folder.parts and not folder.parent.exists():  # what is there would not be seen
        raise UserError(f"{folder} leads through a folder that is not there: name {whole}")
    for parent in whole.parents:
        if owned(parent) is not None:
            raise UserError(f"{folder} lies in the store {parent}: name a folder outside")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, not the folder of a store")
    if whole.is_mount():  # of `.` as it is, pathlib always says so
        raise UserError(f"{folder} is a mount point: name a folder in it")
    if (stranger := next(_strangers(folder, owned(folder) or set()), None)) is not None:
        raise UserError(f"{folder} holds {stranger!r}, which is not of a store: name a new folder")


def _strangers(folder: Path, own: set[str]) -> Iterator[str]:
    """Paths of files, links and folders in a folder that are neither a store's nor hold what is."""
    folders = {str(parent) for path in own for parent in PurePath(path).parents}
    for here, inner, files in os.walk(folder):
        for path in (Path(here, name) for name in sorted([*inner, *files])):
            name, is_folder = str(path.relative_to(folder)), path.is_dir() and not path.is_symlink()
            if name not in (folders if is_folder else own) and not LEFT.fullmatch(name):
                yield name


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
