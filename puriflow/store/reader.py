"""Opening a finished stage, verified, and reading its arrays."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puriflow.atomic import sha256
from puriflow.elsewhere import located
from puriflow.errors import UserError, on_disk, unknown
from puriflow.store.arrays import layouts, open_array, zarrs_errors
from puriflow.store.manifest import (
    MANIFEST,
    TIMING,
    Manifest,
    cure,
    files_of,
    identity,
    read_manifest,
)

BEHIND_RESULTS = False


@dataclass(frozen=True)
class Stage:
    """A finished stage: its directory and what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def store(self) -> Path:
        """The Zarr group."""
        return self.folder / self.manifest["store"]

    @property
    def count(self) -> int:
        """How many samples it has."""
        return self.manifest["n"]

    @property
    def identity(self) -> str:
        """What the next stage records of it: a hash of all that is in it and that made it.

        The machine does not count: the same results made elsewhere are the same.
        """
        return identity(self.manifest)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples `start` to `stop` of an array.

        Raises:
            UserError: there is no such array, or it is damaged.
        """
        if name not in layouts(self.manifest):
            raise unknown(f"array of store {self.folder}", name, self.manifest["arrays"])
        with on_disk(self.folder):
            array = open_array(self.store, name, self.manifest)
            with zarrs_errors(self.folder, name):
                return np.asarray(array[start:stop])

    @property
    def seconds_per_image(self) -> float | None:
        """Wall time of the stage for an image, where it was kept and can be read."""
        try:
            timing = json.loads((self.folder / TIMING).read_bytes())
            seconds = float(timing["seconds"]) / int(timing["images"])
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            return None
        return seconds if math.isfinite(seconds) and seconds >= 0 else None


def open_stage(path: str | Path, *, verify: bool = True) -> Stage:
    """Open a finished stage by its directory or its manifest, or by the address of either.

    Raises:
        UserError: there is no manifest or it is not as it was written, or (if `verify`) a file is
            not as its sha256 there says, is missing, or was added, or an array is not as it says.
    """
    path = located(path)
    folder = path.parent if path.name == MANIFEST else path
    stage = Stage(folder, read_manifest(folder))
    if verify:
        with on_disk(folder):
            _verify(stage)
    return stage


def _verify(stage: Stage) -> None:
    expected, present = stage.manifest["files"], files_of(stage.store)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            what = "is missing"
        elif name not in expected:
            what = "is not of this store"
        elif sha256(present[name]) != expected[name]:
            what = "was damaged"
        else:
            continue
        raise UserError(f"store {stage.folder}: {name} {what}; {cure(stage.folder)}")
    for name in layouts(stage.manifest):
        open_array(stage.store, name, stage.manifest)
