"""Finding images of one's own, and checking all of them before anything is computed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from puriflow.errors import Problem
from puriflow.own.formats import OPENERS, UNREADABLE, is_zarr, open_images, unreadable
from puriflow.own.layouts import Layout, layout_of

JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Input:
    """A file, or a Zarr store, of images that were all looked at.

    Attributes:
        path: where it is.
        name: of what comes out, relative to its folder.
        first: place of its first image in the given order.
        layout: of its array.
        notes: what to know about how it is read and written.
    """

    path: Path
    name: Path
    first: int
    layout: Layout
    notes: tuple[str, ...]


def find_inputs(paths: Sequence[Path], out: Path) -> list[Input]:
    """All images of files, Zarr stores and folders, in the order given; folders by sorted name.

    Args:
        paths: of what is given.
        out: folder of results, which is left out where a folder holds it.

    Raises:
        Problem: something is missing, unreadable or no image, or two results had the same name.
    """
    inputs: list[Input] = []
    sources: dict[Path, Path] = {}
    first = 0
    for path, name in _found(paths, out):
        if name.suffix.lower() in JPEG and path.is_file():
            name = name.with_suffix(".png")
        if name in sources:
            raise Problem(
                f"{sources[name]} and {path} would both become {name}: purify them one by one"
            )
        sources[name] = path
        inputs.append(check(path, name, first))
        first += inputs[-1].layout.count
    return inputs


def check(path: Path, name: Path, first: int) -> Input:
    """Read a file from end to end.

    Raises:
        Problem: it cannot be read, or holds no images in [0, 1].
    """
    opened = open_images(path)
    layout = layout_of(opened.array.shape, opened.array.dtype, str(path))
    try:
        layout.check(opened.array, str(path))
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    notes = opened.notes
    if path.suffix.lower() in JPEG:
        notes = ("PNG, since JPEG would change the result", *notes)
    return Input(path, name, first, layout, notes)


def _found(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """What is given, and the name of each relative to the folder that was given."""
    for path in paths:
        if path.is_dir() and not is_zarr(path):
            if path.resolve() == out.resolve():
                raise Problem(f"folder {path} cannot be read from and written to: name another")
            found = sorted(_below(path, out.resolve()))
            if not found:
                raise Problem(f"folder {path} has no {', '.join(OPENERS)} or Zarr store in it")
            yield from ((file, file.relative_to(path)) for file in found)
        elif path.exists():
            yield path, Path(path.absolute().name)
        else:
            raise Problem(f"input {path} does not exist")


def _below(folder: Path, out: Path) -> Iterator[Path]:
    """The images in a folder and its subfolders, without hidden ones and what is in `out`."""
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.name.startswith(".") or path.resolve() == out:
            continue
        if entry.is_dir(follow_symlinks=False) and not is_zarr(path):
            yield from _below(path, out)
        elif entry.is_dir() or path.suffix.lower() in OPENERS:
            yield path
