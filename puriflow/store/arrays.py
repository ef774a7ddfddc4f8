"""The arrays of a store: numbers in sharded Zarr v3 with a checksum in every chunk, nothing else.

What zarr would open beside these may run code of whoever made it (a pickle of Zarr v2), or fill the
memory. So an array's own `zarr.json` is checked before zarr sees it.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from puriflow.elsewhere import is_file, is_local
from puriflow.errors import UserError
from puriflow.store.manifest import DType, Layout, Manifest, checked, cure, read_json

if TYPE_CHECKING:
    import zarr  # imported where an array is: planning reads none

BEHIND_RESULTS = False
CHUNK_BYTES = 4 * 2**20  # what a reader reads
SHARD_BYTES = 256 * 2**20  # what a job writes at once, and holds in memory
AXES = {"images": ("channel", "y", "x"), "logits": ("class",), "answers": ("draw", "class")}
# Of an attack that is judged in its loop: the images of other rules, and what was judged when.
AXES |= dict.fromkeys(("images_majority", "images_worst"), AXES["images"])
AXES |= dict.fromkeys(("wrong", "control_wrong", "voted_wrong", "control_voted_wrong"), ("step",))
OPEN = ConfigDict(strict=True)

Shape = Annotated[list[int], Field(min_length=1, max_length=8)]


@with_config(OPEN)
class _Chunks(TypedDict):
    chunk_shape: Shape


@with_config(OPEN)
class _Grid(TypedDict):
    name: Literal["regular"]
    configuration: _Chunks


@with_config(OPEN)
class _Codec(TypedDict):
    name: Literal["bytes", "blosc", "crc32c"]


@with_config(OPEN)
class _Shards(_Chunks):
    codecs: list[_Codec]
    index_codecs: list[_Codec]


@with_config(OPEN)
class _Sharding(TypedDict):
    name: Literal["sharding_indexed"]
    configuration: _Shards


@with_config(OPEN)
class _ArrayFile(TypedDict):
    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: Shape
    data_type: DType
    chunk_grid: _Grid
    codecs: Annotated[list[_Sharding], Field(min_length=1, max_length=1)]
    storage_transformers: Annotated[list[Any], Field(max_length=0)]


CHECK = TypeAdapter(_ArrayFile)


def layouts(manifest: Manifest) -> dict[str, Layout]:
    """Shapes and types of all arrays of a store, by their names."""
    index: Layout = {"shape": [manifest["n"]], "dtype": "int64"}
    return {"label": index, "index": index, **manifest["arrays"]}


def open_array(store: Path, name: str, manifest: Manifest) -> "zarr.Array":
    """An array of a store, to read.

    Raises:
        UserError: it is not as the manifest says, or not as a store's arrays are.
    """
    import zarr

    _check(store, name, manifest)
    with zarrs_errors(store.parent, name):
        place: Any = store if is_local(store) else str(store)
        options = getattr(store, "storage_options", None)  # of an address
        return zarr.open_array(place, path=name, mode="r", zarr_format=3, storage_options=options)


@contextmanager
def zarrs_errors(folder: Path, name: str) -> Generator[None]:
    """Turn whatever zarr says of a damaged array into one line; it has no error of its own."""
    try:
        yield
    except OSError:  # of the file system, which are said elsewhere
        raise
    except Exception as error:
        if not is_local(folder):  # as are all of an address, since it may be the connection
            raise
        reason = " ".join(f"{error}".split())
        raise UserError(f"store {folder}: {name} was damaged ({reason}); {cure(folder)}") from None


def _check(store: Path, name: str, manifest: Manifest) -> None:
    """Check how an array is kept, before anything of it is read."""
    layout, where = layouts(manifest)[name], f"store {store.parent}: {name}/zarr.json"
    if not is_file(store / name / "zarr.json"):
        raise UserError(f"{where} is missing; {cure(store.parent)}")
    said = checked(CHECK, read_json(store / name / "zarr.json", where)[1], where)
    found = {"shape": said["shape"], "dtype": said["data_type"]}
    if found != layout:
        raise UserError(
            f"{where} says {found['dtype']} {found['shape']}, but the manifest "
            f"{layout['dtype']} {layout['shape']}"
        )
    sharding = said["codecs"][0]["configuration"]
    shard, chunk = said["chunk_grid"]["configuration"]["chunk_shape"], sharding["chunk_shape"]
    sample = max(prod(layout["shape"][1:]) * np.dtype(layout["dtype"]).itemsize, 1)
    if (
        not shard[1:] == chunk[1:] == layout["shape"][1:]
        or not 1 <= chunk[0] <= max(CHUNK_BYTES // sample, 1)
        or not chunk[0] <= shard[0] <= max(SHARD_BYTES // sample, chunk[0])
    ):
        raise UserError(f"{where}: shards of {shard} and chunks of {chunk} are not of a store")
    for i in range(-(-layout["shape"][0] // shard[0])):  # what has no file would be made up
        file = "/".join([name, "c", str(i), *("0" for _ in layout["shape"][1:])])
        if file not in manifest["files"]:
            raise UserError(f"store {store.parent}: {file} is missing; {cure(store.parent)}")


def create_array(group: "zarr.Group", name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """An array with >= 1 MB chunks where it is large, sharded, with a checksum in every chunk."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    sample = max(prod(shape[1:]) * dtype.itemsize, 1)
    chunk = min(max(CHUNK_BYTES // sample, 1), max(shape[0], 1))
    per_shard = max(SHARD_BYTES // (sample * chunk), 1)
    shard = chunk * min(per_shard, -(-shape[0] // chunk))
    array = group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=[
            BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=dtype.itemsize),
            # Without it, flipped bits of barely compressible data come back as wrong numbers.
            Crc32cCodec(),
        ],
        fill_value=float("nan") if np.issubdtype(dtype, np.floating) else 0,
        dimension_names=("sample", *AXES.get(name, ())),
        config={"write_empty_chunks": True},
    )
    if name not in ("label", "index"):
        array.attrs["coordinates"] = "label index"  # how xarray learns that they are coordinates
    return array


def write_arrays(
    store: Path, attributes: Mapping[str, Any], labels: np.ndarray, indices: np.ndarray
) -> "zarr.Group":
    """A new Zarr group with the labels and indices of its samples."""
    import zarr

    group = zarr.create_group(store, attributes={"puriflow": dict(attributes)})
    for name, values in (("label", labels), ("index", indices)):
        create_array(group, name, values.dtype, values.shape)[:] = values
    return group
