"""Opening a finished stage, verified, and reading its arrays."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from puriflow.atomic import sha256
from puriflow.errors import UserError, unknown
from puriflow.store.manifest import MANIFEST, TIMING, Manifest, files_of, identity, read_manifest

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
        """Samples `start` to `stop` of an array."""
        if name not in ("label", "index", *self.manifest["arrays"]):
            raise unknown(f"array of store {self.folder}", name, self.manifest["arrays"])
        array = zarr.open_array(self.store, path=name, mode="r")
        return np.asarray(array[start:stop])

    @property
    def seconds_per_image(self) -> float | None:
        """Wall time of the stage for an image, where it was kept."""
        file = self.folder / TIMING
        if not file.is_file():
            return None
        timing = json.loads(file.read_text())
        return timing["seconds"] / timing["images"] if timing["images"] else None


def open_stage(path: str | Path, *, verify: bool = True) -> Stage:
    """Open a finished stage by its directory or its manifest.

    Raises:
        UserError: there is no manifest, or (if `verify`) a file is not as its sha256 there says,
            is missing, or was added.
    """
    path = Path(path)
    folder = path.parent if path.name == MANIFEST else path
    stage = Stage(folder, read_manifest(folder))
    if verify:
        _verify(stage)
    return stage


def _verify(stage: Stage) -> None:
    expected, present = stage.manifest["files"], files_of(stage.store)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            raise UserError(f"store {stage.folder}: {name} is missing; delete the store and rerun")
        if name not in expected:
            raise UserError(f"store {stage.folder}: {name} is not of this store")
        if sha256(present[name]) != expected[name]:
            raise UserError(f"store {stage.folder}: {name} was damaged; delete the store and rerun")
