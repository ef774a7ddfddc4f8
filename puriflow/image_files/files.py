"""Walking folders of image files: links are followed, and no folder can be without end."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from puriflow.atomic import sha256
from puriflow.errors import UserError, reading

MOST = 1_000_000  # files and folders below one: links can make more than anybody has
DEEPEST = 100  # folders in one another
Identity = tuple[int, int]


def files_below(
    folder: Path,
    *,
    skip: Callable[[Path], bool] = lambda path: False,
    whole: Callable[[Path], bool] = lambda path: False,
    left_out: Path | None = None,
) -> Iterator[Path]:
    """Everything below a folder that is not one itself, in no order.

    Links are followed, but not to folders above them, so that there is no circle.

    Args:
        folder: to begin with.
        skip: of a file or folder: it is passed over.
        whole: of a folder: it counts as a file.
        left_out: a folder that is passed over, whatever leads to it.
    """
    here = {identity(folder), identity(left_out)} if left_out else {identity(folder)}
    todo = [(folder, frozenset(here))]
    seen = 0
    while todo:
        parent, above = todo.pop()
        with reading(parent):
            entries = [Path(entry.path) for entry in os.scandir(parent)]
        seen += len(entries)
        if seen > MOST:
            raise UserError(f"folder {folder} has more than {MOST:,} files and folders")
        for path in entries:
            if skip(path):
                continue
            if not path.is_dir():
                yield path
            elif (number := identity(path)) not in above:
                if whole(path):
                    yield path
                elif len(above) > DEEPEST:
                    raise UserError(f"folder {folder} has folders more than {DEEPEST} deep")
                else:
                    todo.append((path, above | {number}))


def identity(path: Path) -> Identity | None:
    """What tells a folder or file from others, whatever it is called; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path, which need not be there, is a folder or in it, by whatever name."""
    real = Path(os.path.realpath(path))
    return identity(folder) in {identity(place) for place in (real, *real.parents)} - {None}


def tree_hash(path: Path) -> str:
    """sha256 of a file, or of all names and files of a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(f for f in files_below(path) if f.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
