"""The manifest of a store: what it holds and what made it, as `manifest.json` says it.

It protects itself: it has a digest of all that it says, and is written in one way only, so that no
flipped bit and no edit passes for what was written.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from puriflow.elsewhere import files_below, is_file, is_local
from puriflow.errors import NotBuilt, UserError, on_disk

BEHIND_RESULTS = False
SCHEMA = 2  # 1 had no digest
MANIFEST = "manifest.json"
TIMING = "timing.json"  # beside the manifest, never in it: times differ from run to run
LARGEST = 16 * 2**20  # bytes of a manifest or of a zarr.json; ours have a few thousand
STRICT = ConfigDict(strict=True, extra="forbid")

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,100}$")]
Count = Annotated[int, Field(ge=0)]
DType = Annotated[str, Field(pattern=f"^({'|'.join(DTYPES)})$")]
Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}\.zarr$")]


@with_config(STRICT)
class Provenance(TypedDict):
    """What made a stage; decides whether earlier work may be resumed. No times, no host names."""

    stage: str
    parameters: dict[str, Any]  # its parts by role, with all their options, and its own numbers
    seed: int | None  # of all draws; None if there are none
    code: Sha256  # of the code behind it
    weights: dict[str, Sha256]  # of the files of weights, by name or `zoo:NAME`
    versions: dict[str, str]  # of the libraries that the code uses
    upstream: dict[str, Sha256]  # identities of the stages that it was made from, by their folders


@with_config(STRICT)
class Layout(TypedDict):
    """Of an array."""

    shape: Annotated[list[Count], Field(min_length=1, max_length=8)]
    dtype: DType


@with_config(STRICT)
class Manifest(Provenance):
    """What the file holds."""

    schema: int  # version of this layout
    store: Group  # name of the Zarr group
    n: Count  # how many samples there are
    arrays: dict[Name, Layout]  # without `label` and `index`
    files: dict[str, Sha256]  # of every file of the Zarr group
    machine: dict[str, str | int]  # see `provenance.machine`
    digest: Sha256  # of all the rest


class _Older(TypedDict):
    """What tells a manifest of an earlier version from those of others."""

    schema: Literal[1]
    stage: str
    code: str
    store: Group
    files: dict[str, Sha256]


CHECK, OLDER = TypeAdapter(Manifest), TypeAdapter(_Older)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a stage's directory, checked.

    Raises:
        NotBuilt: there is none.
        UserError: it is not as a store's writer left it.
    """
    with on_disk(folder):
        if not is_file(folder / MANIFEST):
            what = "has no manifest: it was not finished" if folder.is_dir() else "does not exist"
            raise NotBuilt(f"store {folder} {what}")
    where = f"store {folder}: {MANIFEST}"
    text, raw = read_json(folder / MANIFEST, where)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if type(schema) is int and 0 < schema < SCHEMA:
        raise UserError(f"store {folder}: schema {schema} is of an earlier version; {cure(folder)}")
    if type(schema) is not int or schema != SCHEMA:
        raise UserError(f"store {folder}: schema {schema!r:.40}, but {SCHEMA} is known")
    manifest: Manifest = checked(CHECK, raw, where)
    for name, array in manifest["arrays"].items():
        if array["shape"][0] != manifest["n"]:
            raise UserError(f"{where}: {name!r} is not of {manifest['n']} samples")
    if text != as_text(manifest).encode() or manifest["digest"] != digest(manifest):
        raise UserError(f"{where} was changed or damaged; {cure(folder)}")
    return manifest


def owned(folder: Path) -> set[str] | None:
    """Paths of all that is a store's in a folder; None if it has no manifest of ours."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        _, raw = read_json(folder / MANIFEST, str(folder))
        older = isinstance(raw, dict) and raw.get("schema") == 1
        said = checked(OLDER, raw, str(folder)) if older else read_manifest(folder)
    except UserError:
        return None
    return {MANIFEST, TIMING, *(f"{said['store']}/{name}" for name in said["files"])}


def cure(folder: Path) -> str:
    """What mends a store, for the end of an error."""
    if not is_local(folder):
        return "delete it there, and copy it again"
    return f"run `puriflow repair {folder}`, and again what made it"


def read_json(file: Path, where: str) -> tuple[bytes, Any]:
    """Bytes of a file, and the JSON that they are; anything else is said in one line."""
    with on_disk(file):
        if file.stat().st_size > LARGEST:
            raise UserError(f"{where} is larger than {LARGEST} bytes")
        text = file.read_bytes()
    try:
        raw = json.loads(text)
        as_text({"": raw})  # what is nested too deep for this is so for all that follows
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deep") from None
    return text, raw


def checked(model: TypeAdapter, raw: object, where: str) -> Any:
    """Validate by a model; the first error becomes a UserError."""
    try:
        return model.validate_python(raw)
    except ValidationError as error:
        # A misspelt key is the cause of the missing one, which is reported before it.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {place!r:.100}: {first['msg']}") from None


def as_text(value: Mapping[str, Any]) -> str:
    """JSON as it is written to the disk, the same for equal values."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def digest(manifest: Mapping[str, Any]) -> str:
    """What a manifest says of itself: a hash of all that it says, but for this."""
    return _hash(manifest, {"digest"})


def identity(manifest: Mapping[str, Any]) -> str:
    """A hash of a manifest but for the machine: the same results made elsewhere have the same."""
    return _hash(manifest, {"digest", "machine"})


def _hash(manifest: Mapping[str, Any], without: set[str]) -> str:
    rest = {key: value for key, value in manifest.items() if key not in without}
    return hashlib.sha256(as_text(rest).encode()).hexdigest()


def files_of(store: Path) -> dict[str, Path]:
    """All files of a Zarr group, by their paths in it."""
    return {str(file.relative_to(store)): file for file in files_below(store)}
