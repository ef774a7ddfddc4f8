"""Work under way: what is finished of a store lies in `.NAME.work` beside it until all of it is.

Every file there that is gone on from is sealed: one that is not as it was written is dropped with a
line, and made anew.
"""

import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puriflow.atomic import drop, publish, read_sealed, remove, sealed_content, write_sealed
from puriflow.errors import UserError
from puriflow.store.holding import hold, take
from puriflow.store.manifest import MANIFEST

BEHIND_RESULTS = False
BATCH = re.compile(r"(\d{8,})-(\d{8,})\.batch")
KEPT = re.compile(r"[0-9a-f]{16}")  # work of one provenance
REPLACED = re.compile(r"replaced-[0-9a-f]{32}")  # a store whose place another one took
LOCK = "lock"
FOUND = re.compile(r"found-[0-9a-f]{32}")  # a store that was set aside
UNFINISHED = re.compile(r"building-[0-9a-f]{32}|\..*\.tmp")


@dataclass(frozen=True)
class Batch:
    """Results of the samples from `start` on."""

    start: int
    arrays: Mapping[str, np.ndarray]  # (n, ...) each
    seconds: float  # that they took

    @property
    def stop(self) -> int:
        """Position after the last sample."""
        return self.start + len(next(iter(self.arrays.values())))

    @property
    def layout(self) -> dict[str, str]:
        """What all batches of a store have in common."""
        return {name: f"{a.dtype} {a.shape[1:]}" for name, a in self.arrays.items()}


class Work:
    """The batches of one store under way, which no other process writes until this is closed.

    What another process writes is waited for, and a store that was set aside is put back.

    Attributes:
        folder: of the work of this very provenance.
        kept: files of the batches, by first position and last + 1.

    Raises:
        UserError: it is a link.
    """

    def __init__(self, store: Path, provenance: object):
        self.store, self.parent = store, work_of(store)
        made_by = json.dumps(provenance, sort_keys=True).encode()
        self.folder = self.parent / hashlib.sha256(made_by).hexdigest()[:16]
        for folder in (self.parent, self.folder):
            if folder.is_symlink():
                raise UserError(f"{folder} is a link, but must lie beside the store: remove it")
        self._held = hold(self.parent / LOCK, store)
        self._put_back()
        self.folder.mkdir(exist_ok=True)
        for stale in self._own():  # of other parameters: never to be resumed
            if stale != self.folder:
                remove(stale)
        for stale in self.folder.iterdir():
            if UNFINISHED.fullmatch(stale.name):
                remove(stale)
        self.layout: dict[str, str] | None = None
        self.kept: dict[tuple[int, int], Path] = {}
        for place, file in _batch_files(self.folder).items():
            batch = _read(file)
            if batch is None or (batch.start, batch.stop) != place or self._is_other(batch):
                if file.exists():
                    drop(file)
                continue
            self.kept[place], self.layout = file, batch.layout

    def keep(self, batch: Batch) -> None:
        """Write a batch, durably.

        Raises:
            UserError: its arrays are not like those of the batches before.
        """
        if self._is_other(batch):
            raise UserError(
                f"store {self.store}: arrays are {batch.layout} in {batch.start}..{batch.stop}, "
                f"but {self.layout} before"
            )
        place = batch.start, batch.stop
        file = self.folder / f"{batch.start:08d}-{batch.stop:08d}.batch"
        write_sealed(file, _content(batch))
        self.kept[place], self.layout = file, batch.layout

    def batches(self) -> Iterator[Batch]:
        """All that is kept, by position, one in memory at a time.

        Raises:
            UserError: one was damaged since it was found whole; it is dropped.
        """
        for _, file in sorted(self.kept.items()):
            batch = _read(file)
            if batch is None:
                raise UserError(f"store {self.store}: {file.name} was damaged; run this again")
            yield batch

    def new_folder(self) -> Path:
        """Where the store is made, until it is whole."""
        folder = self.folder / f"building-{uuid.uuid4().hex}"
        folder.mkdir()
        return folder

    def put_in_place(self, made: Path) -> None:
        """Give a store its name, in place of one that may be there, and remove the work."""
        self._held.check()
        publish(made, self.store, aside=self.parent / f"replaced-{uuid.uuid4().hex}")
        self.discard()

    def discard(self) -> None:
        """Remove the work, of which something else has been made."""
        for mine in self._own():
            shutil.rmtree(mine, ignore_errors=True)
        # From here on another process may lock the folder, or make it anew: then it stays.
        with suppress(OSError):
            self._held.remove()
            self.parent.rmdir()
        self.close()

    def close(self) -> None:
        """Let another process write the store; what was written is kept."""
        self._held.close()

    def _own(self) -> list[Path]:
        """What this module has made in the folder, and nothing that somebody else has put there."""
        found = self.parent.iterdir()
        return [f for f in found if any(p.fullmatch(f.name) for p in (KEPT, REPLACED, FOUND))]

    def _put_back(self) -> None:
        """Where the store was there may be an empty folder, which Snakemake makes for a job."""
        for aside in self.parent.iterdir():
            if FOUND.fullmatch(aside.name) and not (self.store / MANIFEST).exists():
                os.rename(aside, self.store)

    def _is_other(self, batch: Batch) -> bool:
        return self.layout is not None and batch.layout != self.layout


def work_of(store: Path) -> Path:
    """The folder of a store's work under way."""
    return store.with_name(f".{store.name}.work")


def set_aside(store: Path) -> None:
    """Keep a store from Snakemake, which removes what a job is to make, for the job to judge.

    Between the plan of a job and its start on a cluster another run may have made it, or a job that
    outlived one. Nothing is done while another process writes it.
    """
    if (store / MANIFEST).is_file() and (held := take(work_of(store) / LOCK)) is not None:
        with closing(held), suppress(FileNotFoundError):  # another job was first
            os.rename(store, work_of(store) / f"found-{uuid.uuid4().hex}")


def _batch_files(folder: Path) -> dict[tuple[int, int], Path]:
    """Files of batches by the positions that their names say, in order."""
    named = ((BATCH.fullmatch(file.name), file) for file in sorted(folder.iterdir()))
    return {(int(m[1]), int(m[2])): file for m, file in named if m}


def _content(batch: Batch) -> bytes:
    """A line of JSON, and the arrays as NumPy's `.npy` one after the other.

    Its `.npz` would check what the seal does, at the price of the seal.
    """
    said = {"start": batch.start, "seconds": batch.seconds, "arrays": [*batch.arrays]}
    content = io.BytesIO()
    content.write(json.dumps(said).encode() + b"\n")
    for values in batch.arrays.values():
        np.save(content, values, allow_pickle=False)
    return content.getvalue()


def _read(file: Path) -> Batch | None:
    """A batch; None, and it is gone, if it is not as it was written."""
    if (content := read_sealed(file)) is None:
        return None
    try:
        whole = io.BytesIO(content)
        said = json.loads(whole.readline())
        arrays = {name: np.load(whole, allow_pickle=False) for name in said["arrays"]}
        batch = Batch(int(said["start"]), arrays, float(said["seconds"]))
        return batch if batch.stop > batch.start else None
    except (ValueError, LookupError, TypeError, StopIteration, EOFError):
        return None


def work_under_way(root: Path) -> list[Path]:
    """Folders of work under way of all stores below a folder."""
    return sorted(f for f in root.rglob(".*.work") if f.is_dir() and not f.is_symlink())


def damaged_work(folder: Path) -> list[Path]:
    """Sealed files in such a folder that are not as they were written."""
    inner = (f for f in sorted(folder.glob("*/*")) if KEPT.fullmatch(f.parent.name) and f.is_file())
    sealed = (f for f in inner if not UNFINISHED.fullmatch(f.name))
    return [file for file in sealed if sealed_content(file) is None]
