"""What every format of image files opens to, and what each checks before it reads."""

import resource
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from puriflow.errors import UserError, reading, unknown
from puriflow.image_files.layout import Layout

ROOM = 2**31  # bytes of addresses for the stacks and heaps of threads that read chunks
IMAGES = "images"  # the array that counts where a file has several


@dataclass(frozen=True)
class OpenFile:
    """An open file of images."""

    array: Any  # what numpy can slice; see `Layout` for its shapes
    # Writes purified images to a path, given the layout and blocks (n, ...) in order.
    save: Callable[[Path, Layout, Iterable[np.ndarray]], None]
    size: int  # bytes of all that is written, uncompressed
    notes: tuple[str, ...] = ()  # what to know about how it is read and written


class Guarded:
    """An array on disk: what cannot be read of it is one line, and no chunk fills the memory.

    Args:
        path: that errors name.
        array: what numpy can slice.
        needed: bytes that a part of it takes in memory while it is read. A chunk that unpacks to
            far more than it says is stopped by the kernel, whatever its codec is.
    """

    def __init__(self, path: Path, array: Any, needed: int):
        self.path, self.array, self.needed = path, array, needed
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes

    def __getitem__(self, where: Any) -> np.ndarray:
        with reading(self.path), memory_for(self.needed):
            return np.asarray(self.array[where])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


@contextmanager
def memory_for(needed: int) -> Generator[None]:
    """Let this process take so many bytes more than it has, and room for threads, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + 4 * needed + ROOM
    if soft != resource.RLIM_INFINITY and soft <= most:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


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
