"""Finding image files, and checking all of them before anything is computed."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from puriflow.datasets.reading import is_systems
from puriflow.errors import UserError, printable, reading
from puriflow.image_files import pictures
from puriflow.image_files.files import files_below, identity, is_within
from puriflow.image_files.formats import ENDINGS, OPENERS, open_images
from puriflow.image_files.layout import Layout, layout_of
from puriflow.image_files.open_file import check_memory, in_bytes
from puriflow.image_files.zarr_stores import is_zarr
from puriflow.store import MANIFEST

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
WORKING = 64  # bytes of memory that a pixel of an image takes while it is purified, at most


@dataclass(frozen=True)
class ImageFile:
    """A file, or a Zarr store, of images that were all checked."""

    path: Path
    output: Path  # name of what comes out, relative to the folder of results
    layout: Layout  # of its array
    size: int  # bytes of what comes out, uncompressed
    notes: tuple[str, ...]  # what to know about how it is read and written


def find_images(paths: Sequence[Path], out: Path) -> list[ImageFile]:
    """All images of files, Zarr stores and folders, in the order given; folders by sorted name.

    The folder of results `out` is left out where a folder holds it.

    Raises:
        UserError: something is missing, unreadable or no image, two results had the same name, or
            memory or disk have no room.
    """
    images: dict[Path, ImageFile] = {}
    size = 0
    for path, output in _found(paths, out):
        notes: tuple[str, ...] = ()
        if output.suffix.lower() in pictures.ENDINGS[1:] and path.is_file():
            notes = ("written as PNG",)
            output = output.with_suffix(".png")
        if output in images:
            raise UserError(
                f"{images[output].path} and {path} would both become {output}: give one of them "
                "alone, and another folder for the other"
            )
        file = open_images(path)
        layout = layout_of(file.array.shape, file.array.dtype, str(path))
        height, width = layout.size
        check_memory(path, WORKING * height * width)
        size += 0 if os.path.lexists(out / output) else file.size
        check_room(out, size)
        with reading(path):
            layout.check(file.array, str(path))
        images[output] = ImageFile(path, output, layout, file.size, (*notes, *file.notes))
    for output in images:
        for parent in output.parents:
            if parent in images:
                raise UserError(f"{output} would be inside {parent}, which is a result itself")
    return list(images.values())


def check_room(out: Path, size: int, what: str = "the results") -> None:
    """Refuse what takes more bytes, uncompressed, than the disk has left."""
    real = Path(os.path.realpath(out))
    place = next(p for p in (real, *real.parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"{what} take up to {in_bytes(size)}, but {in_bytes(free)} are free in {place}"
        )


def _found(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """What is given, and the name of each relative to the folder that was given."""
    for path in paths:
        if is_zarr(path):
            if is_within(out, path):
                raise UserError(f"{path} is a Zarr store, and {out} would be inside: name another")
            yield path, _own_name(path)
        elif path.is_dir():
            if identity(path) == identity(out):
                raise UserError(f"folder {path} cannot be read from and written to: name another")
            yield from ((file, file.relative_to(path)) for file in _in_folder(path, out))
        elif path.name == MANIFEST and path.is_file():
            raise UserError(
                f"{path} is a manifest: use `puriflow stage purify`, or name its folder"
            )
        elif os.path.exists(path):
            yield path, _own_name(path)
        else:
            raise UserError(f"input {path} does not exist")


def _own_name(path: Path) -> Path:
    """The name of what is given, which `.` and `..` have elsewhere."""
    name = path.absolute().name
    return Path(path.resolve().name if name == ".." else name)


def _in_folder(folder: Path, out: Path) -> list[Path]:
    """The images in a folder and below, without what is a system's; says what is left out."""
    found = files_below(
        folder, skip=lambda path: is_systems(path.name), whole=is_zarr, left_out=out
    )
    files = []
    others: Counter[str] = Counter()
    for path in sorted(found):
        if path.suffix.lower() in OPENERS or path.is_dir():
            files.append(path)
        else:
            others[path.suffix.lower() or "without an ending"] += 1
    if not files:
        raise UserError(f"folder {folder} has no {ENDINGS} or Zarr store in it")
    if others:
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        log.info(printable(f"{folder}: {endings} left out, being no images"))
    return files
