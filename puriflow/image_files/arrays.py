"""Arrays as numpy keeps them: npy and npz. Nothing in them is ever unpickled."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from puriflow.errors import UserError
from puriflow.image_files.layout import Layout
from puriflow.image_files.open_file import OpenFile, check_memory, images_array

HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def npy(path: Path) -> OpenFile:
    """An .npy file, of which only what is read comes into memory."""
    array = npy_format.open_memmap(path, mode="r")

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        with to.open("wb") as file:  # not mapped: a full disk would kill the process
            write_npy(file, layout, blocks)

    return OpenFile(array, save, array.nbytes)


def npz(path: Path) -> OpenFile:
    """An .npz file with one array, or with one called `images`; others are kept as they are."""
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        if len({member.filename for member in members}) < len(members):
            raise UserError(f"{path} is no npz: two arrays in it have one name")
        size = sum(claimed(path, file, member) for member in members)
        check_memory(path, size)
        arrays = {}
        for member in members:
            with file.open(member) as content:
                name = member.filename.removesuffix(".npy")
                arrays[name] = npy_format.read_array(content, allow_pickle=False)
    name, notes = images_array(path, arrays)

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        with zipfile.ZipFile(to, "w") as out:
            for other, array in arrays.items():
                with out.open(zipfile.ZipInfo(f"{other}.npy"), "w", force_zip64=True) as content:
                    if other == name:
                        write_npy(content, layout, blocks)
                    else:
                        npy_format.write_array(content, array, allow_pickle=False)

    return OpenFile(arrays[name], save, size, notes)


def claimed(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes of an array of an npz, as its header says; a UserError if it is none of numbers."""
    with file.open(member) as content:
        start = content.read(len(npy_format.MAGIC_PREFIX))
        if start != npy_format.MAGIC_PREFIX or not member.filename.endswith(".npy"):
            raise UserError(f"{path} is no npz: {member.filename} in it is no array")
    with file.open(member) as content:
        version = npy_format.read_magic(content)
        if version not in HEADERS:
            raise UserError(f"{path}: {member.filename} in it is an npy of version {version}")
        shape, _, dtype = HEADERS[version](content)
        length = content.tell()
    if dtype.hasobject:
        raise UserError(f"{path}: {member.filename} in it has Python objects, which are not read")
    size = dtype.itemsize
    for side in shape:
        size *= side
    if size + length != member.file_size:
        raise UserError(f"{path}: {member.filename} in it is cut off, or claims what it has not")
    return size


def write_npy(file: IO[bytes], layout: Layout, blocks: Iterable[np.ndarray]) -> None:
    """Write the images of blocks (n, ...) as one array of a layout."""
    header = {
        "descr": npy_format.dtype_to_descr(layout.dtype),
        "fortran_order": False,
        "shape": layout.shape,
    }
    npy_format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)
