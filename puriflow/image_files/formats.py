"""Reading and writing image files: PNG, JPEG, npy, npz and Zarr.

A file is opened as an array of images, and knows how to save its purified images as a file of the
same format. Nothing of a file is kept but what only it can tell, such as its alpha channel.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from PIL import Image, ImageOps

from puriflow.errors import UserError, unknown
from puriflow.image_files.layout import Layout

IMAGES = "images"  # the array that counts where a file has several
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class OpenFile:
    """An open file of images."""

    array: Any  # what numpy can slice; see `Layout` for its shapes
    # Writes purified images to a path, given the layout and blocks (n, ...) in order.
    save: Callable[[Path, Layout, Iterable[np.ndarray]], None]
    notes: tuple[str, ...] = ()  # what to know about how it is read and written


def open_images(path: Path) -> OpenFile:
    """Open a file or a Zarr store; a UserError if it has another format, or cannot be read."""
    opener = zarr_store if is_zarr(path) else OPENERS.get(path.suffix.lower())
    if opener is None:
        endings = ", ".join(OPENERS)
        raise UserError(
            f"{path} is not an image: give {endings}, a Zarr store or a folder of these"
        )
    with reading(path):
        return opener(path)


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Whatever the libraries raise about a file becomes a UserError of one line.

    That is nearly everything where a file is damaged: even zlib.error, MemoryError, AttributeError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read: {message}") from None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in ZARR_FILES)


def png_or_jpeg(path: Path) -> OpenFile:
    """A PNG or JPEG file of 8 bits: one image (H, W, 3), the right way up; saved as PNG."""
    with path.open("rb") as file:
        header = file.read(25)
    with Image.open(path, formats=("PNG", "JPEG")) as opened:
        deep = opened.format == "PNG" and header[24] > 8
        if deep or opened.mode not in GREY + COLOUR:
            raise UserError(f"{path} has more than 8 bits a channel; convert it to 8 first")
        notes = []
        if (frames := getattr(opened, "n_frames", 1)) > 1:
            notes.append(f"the first of its {frames} frames")
        if opened.getexif().get(0x0112, 1) != 1:
            notes.append("turned as its EXIF data say")
        image = ImageOps.exif_transpose(opened)
    grey, alpha, mode = image.mode in GREY, None, image.mode
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        notes.append("its alpha channel kept as it is")
    if grey:
        notes.append("grey: purified as RGB, written as grey")
    elif mode == "CMYK":
        notes.append("CMYK: written as RGB")
    profile = None if mode == "CMYK" else image.info.get("icc_profile")

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        (block,) = blocks
        result = Image.fromarray(block[0]).convert("L" if grey else "RGB")
        if alpha is not None:
            result.putalpha(alpha)
        result.save(to, format="PNG", icc_profile=profile)

    return OpenFile(np.asarray(image.convert("RGB")), save, tuple(notes))


def npy(path: Path) -> OpenFile:
    """An .npy file, of which only what is read comes into memory."""

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        file = np.lib.format.open_memmap(to, mode="w+", dtype=layout.dtype, shape=layout.shape)
        write_blocks(file, layout, blocks)
        file.flush()

    return OpenFile(np.load(path, mmap_mode="r", allow_pickle=False), save)


def npz(path: Path) -> OpenFile:
    """An .npz file with one array, or with one called `images`; others are kept as they are."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path} is no npz: {name} in it is no array")
    name, notes = images_array(path, arrays)

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        with to.open("wb") as out:
            # pyrefly: ignore[bad-argument-type]  # these are arrays, not its option
            np.savez(out, **{**arrays, name: layout.concatenate(list(blocks))})

    return OpenFile(arrays[name], save, notes)


def zarr_store(path: Path) -> OpenFile:
    """A Zarr array, or a group with one array or with one called `images`, such as a stage's."""
    source = zarr.open(path, mode="r")
    single = isinstance(source, zarr.Array)
    arrays = {"": source} if single else dict(source.arrays())
    name, notes = images_array(path, arrays)
    if not single and (groups := sorted(source.group_keys())):
        notes = (*notes, f"{', '.join(groups)} left out, being no array")

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        if not single:
            # `puriflow` says what made the source: that is no longer so.
            about = {key: value for key, value in source.attrs.items() if key != "puriflow"}
            zarr.create_group(to, zarr_format=source.metadata.zarr_format, attributes=about)
        for other, array in arrays.items():
            copy = zarr.from_array(to, data=array, write_data=other != name, name=other or None)
            if other == name:
                write_blocks(copy, layout, blocks)

    return OpenFile(arrays[name], save, notes)


def images_array(path: Path, arrays: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Name of the array of a file that holds its images, and what to know of the others."""
    name = next(iter(arrays)) if len(arrays) == 1 else IMAGES
    if name not in arrays:
        raise unknown(f"array of {path}", name, arrays)
    others = ", ".join(sorted(set(arrays) - {name}))
    return name, (f"{others} copied as they are",) if others else ()


def write_blocks(array: Any, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
    """Write blocks (n, ...) one after another."""
    begin = 0
    for block in blocks:
        if layout.single:
            array[...] = block[0]
        else:
            array[begin : begin + len(block)] = block
        begin += len(block)


OPENERS = {**dict.fromkeys((".png", ".jpg", ".jpeg"), png_or_jpeg), ".npy": npy, ".npz": npz}
