"""The manifest of a store: what it holds and what made it, as `manifest.json` says it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from puriflow.errors import UserError

BEHIND_RESULTS = False
SCHEMA = 1
MANIFEST = "manifest.json"
TIMING = "timing.json"  # beside the manifest, never in it: times differ from run to run


class Provenance(TypedDict):
    """What made a stage; decides whether earlier work may be resumed. No times, no host names."""

    stage: str
    parameters: dict[str, Any]  # its parts by role, with all their options, and its own numbers
    seed: int | None  # of all draws; None if there are none
    code: str  # hash of the code behind it
    weights: dict[str, str]  # sha256 of the files of weights, by name or `zoo:NAME`
    versions: dict[str, str]  # of the libraries that the code uses
    upstream: dict[str, str]  # identities of the stages that it was made from, by their folders


class Manifest(Provenance):
    """What the file holds."""

    schema: int  # version of this layout
    store: str  # name of the Zarr group
    n: int  # how many samples there are
    arrays: dict[str, dict[str, Any]]  # `shape` and `dtype` by name, without `label` and `index`
    files: dict[str, str]  # sha256 of every file of the Zarr group
    machine: NotRequired[dict[str, Any]]  # see `provenance.machine`; older stores have none


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a stage's directory; what is none of a store is refused."""
    file = folder / MANIFEST
    if not file.is_file():
        what = "has no manifest: it was not finished" if folder.is_dir() else "does not exist"
        raise UserError(f"store {folder} {what}")
    try:
        manifest = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"store {folder}: {MANIFEST} is not JSON: {error}") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise UserError(f"store {folder}: schema {schema!r}, but {SCHEMA} is known")
    for key in ("store", "n", "arrays", "files"):
        if key not in manifest:
            raise UserError(f"store {folder}: {MANIFEST} does not say {key!r}")
    return manifest


def as_text(value: Mapping[str, Any]) -> str:
    """JSON as it is written to the disk, the same for equal values."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def identity(manifest: Mapping[str, Any]) -> str:
    """A hash of a manifest but for the machine: the same results made elsewhere have the same."""
    rest = {key: value for key, value in manifest.items() if key != "machine"}
    return hashlib.sha256(as_text(rest).encode()).hexdigest()


def files_of(store: Path) -> dict[str, Path]:
    """All files of a Zarr group, by their paths in it."""
    return {str(f.relative_to(store)): f for f in sorted(store.rglob("*")) if f.is_file()}
