"""What every format of image files opens to, and what each checks before it reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from puriflow.errors import UserError, unknown
from puriflow.image_files.layout import Layout

IMAGES = "images"  # the array that counts where a file has several


@dataclass(frozen=True)
class OpenFile:
    """An open file of images."""

    array: Any  # what numpy can slice; see `Layout` for its shapes
    # Writes purified images to a path, given the layout and blocks (n, ...) in order.
    save: Callable[[Path, Layout, Iterable[np.ndarray]], None]
    size: int  # bytes of all that is written, uncompressed
    notes: tuple[str, ...] = ()  # what to know about how it is read and written


def check_memory(path: Path, needed: int) -> None:
    """Refuse what would fill the memory, before it is read."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{path} would take {in_bytes(needed)} of memory, but {in_bytes(free)} are free"
        )


def in_bytes(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"


def images_array(path: Path, arrays: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Name of the array of a file that holds its images, and what to know of the others."""
    name = next(iter(arrays)) if len(arrays) == 1 else IMAGES
    if name not in arrays:
        raise unknown(f"array of {path}", name, arrays)
    others = ", ".join(sorted(set(arrays) - {name}))
    return name, (f"{others} copied as they are",) if others else ()
