"""Finding image files, and checking all of them before anything is computed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from puriflow.errors import UserError
from puriflow.image_files.formats import OPENERS, is_zarr, open_images, reading
from puriflow.image_files.layout import Layout, layout_of
from puriflow.store import MANIFEST

BEHIND_RESULTS = False
JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageFile:
    """A file, or a Zarr store, of images that were all checked."""

    path: Path
    output: Path  # name of what comes out, relative to the folder of results
    layout: Layout  # of its array
    notes: tuple[str, ...]  # what to know about how it is read and written


def find_images(paths: Sequence[Path], out: Path) -> list[ImageFile]:
    """All images of files, Zarr stores and folders, in the order given; folders by sorted name.

    The folder of results `out` is left out where a folder holds it.

    Raises:
        UserError: something is missing, unreadable or no image, or two results had the same name.
    """
    images: dict[Path, ImageFile] = {}
    for path, output in _found(paths, out):
        notes: tuple[str, ...] = ()
        if output.suffix.lower() in JPEG and path.is_file():
            notes = ("PNG, since JPEG would change the result",)
            output = output.with_suffix(".png")
        if output in images:
            raise UserError(
                f"{images[output].path} and {path} would both become {output}: give one of them "
                "alone, and another folder for the other"
            )
        file = open_images(path)
        layout = layout_of(file.array.shape, file.array.dtype, str(path))
        with reading(path):
            layout.check(file.array, str(path))
        images[output] = ImageFile(path, output, layout, (*notes, *file.notes))
    return list(images.values())


def _found(paths: Sequence[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """What is given, and the name of each relative to the folder that was given."""
    for path in paths:
        if path.is_dir() and not is_zarr(path):
            real, real_out = os.path.realpath(path), os.path.realpath(out)
            if real == real_out:
                raise UserError(f"folder {path} cannot be read from and written to: name another")
            files = sorted(_below(path, frozenset((real, real_out))))
            if not files:
                raise UserError(f"folder {path} has no {', '.join(OPENERS)} or Zarr store in it")
            yield from ((file, file.relative_to(path)) for file in files)
        elif path.name == MANIFEST and path.is_file():
            raise UserError(
                f"{path} is a manifest: use `puriflow stage purify`, or name its folder"
            )
        elif path.exists():
            yield path, Path(path.absolute().name)
        else:
            raise UserError(f"input {path} does not exist")


def _below(folder: Path, left_out: frozenset[str]) -> Iterator[Path]:
    """The images in a folder and its subfolders, without hidden ones.

    Links are followed, but not to the real folders `left_out`: the results, and those above.
    """
    with reading(folder):
        entries = list(os.scandir(folder))
    for entry in entries:
        path, real = Path(entry.path), os.path.realpath(entry.path)
        if entry.name.startswith(".") or real in left_out:
            continue
        if path.is_dir() and not is_zarr(path):
            yield from _below(path, left_out | {real})
        elif path.is_dir() or path.suffix.lower() in OPENERS:
            yield path
