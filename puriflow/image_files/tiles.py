"""Purified tiles of a large image that lie beside its place until all of it is purified.

They are in the hidden folder `.NAME.tiles` of the folder of results, where NAME stands for the
file's name, below one that stands for all that makes the image: the source's content, parts,
weights, code and seed. So a killed run goes on at the tile, and no tile is taken for that of
another command, whose tiles are removed. A tile is a sealed file: one that is damaged is dropped.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from puriflow.atomic import read_sealed, remove, write_sealed
from puriflow.errors import UserError

BEHIND_RESULTS = False
FLOAT = 4  # bytes


class Tiles(Protocol):
    """What is kept of the tiles of the images of a file."""

    def get(self, image: int, number: int) -> np.ndarray | None: ...
    def keep(self, image: int, number: int, tile: np.ndarray) -> None: ...


class Forgotten:
    """Nothing is kept."""

    def get(self, image: int, number: int) -> np.ndarray | None:
        """None."""
        return None

    def keep(self, image: int, number: int, tile: np.ndarray) -> None:
        """Do nothing."""


class KeptTiles:
    """The purified tiles of the images of one file, on the disk.

    Args:
        folder: of the results; one process at a time writes in it.
        name: of the file in it.
        made_by: what makes the file.
        size: height and width of a tile.

    Attributes:
        count: how many tiles there are, whole.
        size: bytes of a tile.
    """

    def __init__(self, folder: Path, name: Path, made_by: dict[str, Any], size: tuple[int, int]):
        self.shape = (3, *size)
        self.size = FLOAT * math.prod(self.shape)
        self.parent = _folder(folder, name)
        self.folder = self.parent / _digest(json.dumps(made_by, sort_keys=True))
        if self.parent.is_symlink():
            raise UserError(f"{self.parent} is a link, but must lie in the folder: remove it")
        for other in self.parent.iterdir() if self.parent.is_dir() else ():
            if other != self.folder:
                remove(other)
        found = sorted(self.folder.glob("*.tile")) if self.folder.is_dir() else []
        self.count = sum(self._read(file) is not None for file in found)

    def get(self, image: int, number: int) -> np.ndarray | None:
        """A tile (3, height, width) of an image of the file; None if it is not there."""
        return self._read(self._file(image, number))

    def keep(self, image: int, number: int, tile: np.ndarray) -> None:
        """Write a purified tile, float32 (3, height, width)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sealed(self._file(image, number), tile.astype("<f4").tobytes())

    def _file(self, image: int, number: int) -> Path:
        return self.folder / f"{image}-{number}.tile"

    def _read(self, file: Path) -> np.ndarray | None:
        content = read_sealed(file)
        return None if content is None else np.frombuffer(content, "<f4").reshape(self.shape)


def discard(folder: Path, name: Path) -> None:
    """Remove all tiles of a file of a folder of results, since the file is there."""
    shutil.rmtree(_folder(folder, name), ignore_errors=True)


def _folder(folder: Path, name: Path) -> Path:
    return folder / f".{_digest(str(name))}.tiles"


def _digest(text: str) -> str:
    """Of a name, which need not be text and may be the longest, or of what makes a file."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
