"""Images in Zarr arrays and groups, of version 2 and 3, which keep their attributes.

A codec may be anything, even code that is run when a chunk is read (a pickle). So what describes
the arrays is read as JSON first, and nothing but numbers in known codecs is ever opened.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from puriflow.errors import UserError, unknown
from puriflow.image_files.files import files_below
from puriflow.image_files.layout import Layout
from puriflow.image_files.open_file import Guarded, OpenFile, check_memory, images_array
from puriflow.image_files.packing import FILL, Packed, meaning_of

V3, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES = "zarr.json", ".zarray", ".zgroup", ".zattrs"
V2_CONSOLIDATED = ".zmetadata"
CODECS = {
    2: ("blosc", "bz2", "delta", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd"),
    3: ("blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"),
}
LARGEST = 2**24  # bytes of what describes an array


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return version(path) is not None


def version(path: Path) -> int | None:
    """Which version of Zarr a folder is; None if it is none."""
    if os.path.isfile(path / V3):
        return 3
    return 2 if any(os.path.isfile(path / name) for name in (V2_ARRAY, V2_GROUP)) else None


def zarr_store(path: Path) -> OpenFile:
    """A Zarr array, or a group with one array or with one called `images`, such as a stage's."""
    for file in files_below(path):
        if not file.is_file():
            raise UserError(f"{file} is in a Zarr store, but is no file")
    single = is_array(path)
    inner = {"": path} if single else {f.name: f for f in sorted(path.iterdir()) if is_zarr(f)}
    arrays = {name: open_array(place) for name, place in inner.items() if is_array(place)}
    name, notes = images_array(path, arrays)
    images = arrays[name]
    if meaning := meaning_of(images.array):
        images = Packed(images, meaning)
        notes = (*images.notes(), *notes)
    if groups := sorted(inner.keys() - arrays.keys()):
        notes = (*notes, f"{', '.join(groups)} left out, being no array")
    consolidated = is_consolidated(path)
    # `puriflow` says what made the source: that is no longer so.
    about = {key: value for key, value in attributes(path).items() if key != "puriflow"}

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        if not single:
            # pyrefly: ignore[bad-argument-type]  # 2 or 3
            zarr.create_group(to, zarr_format=version(path), attributes=about)
        for other, array in arrays.items():
            if other != name:
                copy_chunks(array, empty_copy(array, to, other))
            elif isinstance(images, Packed):
                copy = empty_copy(array, to, name, without=images.untrue())
                write_blocks(copy, layout, map(images.pack, blocks))
            else:
                write_blocks(empty_copy(array, to, name), layout, blocks)
        if consolidated:
            with warnings.catch_warnings(action="ignore"):  # that version 3 does not define it yet
                zarr.consolidate_metadata(to)

    return OpenFile(images, save, sum(array.nbytes for array in arrays.values()), notes)


def open_array(path: Path) -> Guarded:
    """Open an array of numbers in known codecs, whose chunks the memory can hold."""
    found = description(path)
    if version(path) == 3:
        check_numbers(path, found.get("data_type"))
        codecs = list(codecs_of(found.get("codecs"), "name"))
    else:
        check_numbers(path, found.get("dtype"))
        coding = [*(found.get("filters") or ()), found.get("compressor")]
        codecs = list(codecs_of([codec for codec in coding if codec is not None], "id"))
    known = CODECS[version(path) or 3]
    for codec in codecs:
        if codec not in known:
            raise unknown(f"codec (of {path})", str(codec), known)
    # pyrefly: ignore[bad-argument-type]  # 2 or 3
    array = zarr.open_array(path, mode="r", zarr_format=version(path))
    chunk = array.dtype.itemsize
    for side in array.chunks:
        chunk *= side
    check_memory(path, chunk)
    return Guarded(path, array, chunk)


def check_numbers(path: Path, dtype: object) -> None:
    """Refuse a type that is not one of numbers, by its name in the description of an array."""
    known = isinstance(dtype, str) and np.dtype(dtype).kind in "biufc"
    if not known:
        raise UserError(f"{path} is of {dtype}: only arrays of numbers are read from Zarr")


def codecs_of(codecs: Any, key: str) -> Iterator[str]:
    """Names of codecs, and of those inside them."""
    for codec in codecs:
        yield codec[key] if isinstance(codec, dict) else codec
        inner = codec.get("configuration") if isinstance(codec, dict) else None
        for more in ("codecs", "index_codecs"):
            yield from codecs_of((inner or {}).get(more, ()), key)


def is_array(path: Path) -> bool:
    """Whether a Zarr folder is an array; it is a group if it is not."""
    if version(path) == 3:
        return description(path).get("node_type") == "array"
    return (path / V2_ARRAY).is_file()


def attributes(path: Path) -> dict[str, Any]:
    """What a group says of itself."""
    if version(path) == 3:
        return dict(description(path).get("attributes", {}))
    return read_json(path / V2_ATTRIBUTES) if (path / V2_ATTRIBUTES).is_file() else {}


def description(path: Path) -> dict[str, Any]:
    """What describes an array or a group."""
    files = (path / name for name in (V3, V2_ARRAY, V2_GROUP))
    return read_json(next(file for file in files if file.is_file()))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds names and values."""
    if file.stat().st_size > LARGEST:
        raise UserError(f"{file} is too large to describe an array")
    found = json.loads(file.read_bytes())
    if not isinstance(found, dict):
        raise UserError(f"{file} describes no Zarr array or group")
    return found


def is_consolidated(path: Path) -> bool:
    """Whether a group describes its arrays itself as well, as xarray likes it."""
    if version(path) == 3:
        return description(path).get("consolidated_metadata") is not None
    return (path / V2_CONSOLIDATED).is_file()


def empty_copy(array: Guarded, to: Path, name: str, without: Sequence[str] = ()) -> Any:
    """A new array like another, with its attributes but for some, and nothing in it."""
    kept = {key: value for key, value in array.array.attrs.items() if key not in without}
    copy = zarr.from_array(
        to,
        data=array.array,
        write_data=False,
        name=name or None,
        fill_value=array.array.fill_value,  # by itself it is 0, which xarray may take for a mark
        attributes=kept,
    )
    file = to / name / V2_ARRAY
    if FILL not in without or not file.is_file():
        return copy
    # In version 2 xarray takes the value of chunks that are not there for it; zarr would keep it.
    file.write_text(json.dumps({**read_json(file), "fill_value": None}))
    return zarr.open_array(to / name, mode="r+", zarr_format=2)


def copy_chunks(array: Guarded, copy: zarr.Array) -> None:
    """Copy an array, some chunks along its first axis at a time."""
    step = array.array.chunks[0] if array.shape else 1
    for begin in range(0, array.shape[0] if array.shape else 1, step):
        part = slice(begin, begin + step) if array.shape else ...
        copy[part] = array[part]


def write_blocks(array: zarr.Array, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
    """Write blocks (n, ...) one after another."""
    begin = 0
    for block in blocks:
        if layout.single:
            array[...] = block[0]
        else:
            array[begin : begin + len(block)] = block
        begin += len(block)
