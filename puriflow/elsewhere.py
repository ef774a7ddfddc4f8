"""Finished stores elsewhere: an address such as `s3://bucket/results` is read, through fsspec.

What stands for an address has the methods of a `Path` that reading needs (universal_pathlib), so
that one code reads both. Nothing is ever written to one: a store takes its name at once, under a
lock, and no bucket has either.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from stat import S_ISDIR, S_ISREG
from typing import Any, cast

from puriflow.errors import UserError

BEHIND_RESULTS = False
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=.)", re.IGNORECASE)  # C:\ has one letter
EXTRA = "pip install 'puriflow[s3]'"


def located(path: str | Path) -> Path:
    """A path; or what reads an address like one, with the settings of fsspec and of AWS.

    Raises:
        UserError: a package that reads such addresses is missing.
    """
    if not isinstance(path, str | PurePath):
        return path  # is an address already
    if (address := as_address(path)) is None:
        return Path(path)
    try:
        from upath import UPath

        # Of a listing that is kept, a store that is copied meanwhile would be half one for ever.
        found = UPath(address, use_listings_cache=False)
        found.fs  # noqa: B018 - imports what reads this kind of address
    except ImportError as error:
        raise UserError(f"{address} is not read without more packages ({error}): {EXTRA}") from None
    except ValueError as error:
        raise UserError(f"{address}: {error}") from None
    return cast(Path, found)


def as_address(path: str | PurePath) -> str | None:
    """The address that a text or a path is; None if it is of this machine.

    A path has lost one of the slashes.
    """
    found = ADDRESS.match(str(path))
    return None if found is None else f"{found[1]}://{str(path)[found.end() :]}"


def check_local(path: str | PurePath, what: str) -> None:
    """Refuse an address where something is written, or where only what is here is read."""
    if (address := as_address(path)) is not None:
        raise UserError(
            f"{what} {address}: give a path of this machine. Only finished stores are read "
            "elsewhere, and nothing is written there: write it here, and copy it (docs/stores.md)"
        )


def is_local(path: Path) -> bool:
    """Whether a path is of this machine, and no address."""
    return isinstance(path, PurePath)


def is_file(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        Exception: whatever the library of an address raises of one that may not be asked for, which
            pathlib's own question would take for one that is not there.
    """
    return path.is_file() if is_local(path) else S_ISREG(_mode(path))


def is_dir(path: Path) -> bool:
    """Whether a folder is there; see `is_file`."""
    return path.is_dir() if is_local(path) else S_ISDIR(_mode(path))


def _mode(address: Path) -> int:
    """What is at an address, as `stat` says it; 0 if nothing is."""
    try:
        return address.stat().st_mode
    except FileNotFoundError:
        return 0


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in order; of an address they are listed in as few requests."""
    if is_local(folder):
        return [file for file in sorted(folder.rglob("*")) if file.is_file()]
    top = cast(Any, folder)
    inner = (name.removeprefix(top.path).lstrip("/") for name in top.fs.find(top.path))
    return [folder / name for name in sorted(inner)]


def folders_below(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, each with the names of those in it, as `os.walk` has them."""

    def refused(error: OSError) -> None:  # else nothing would be said of what may not be listed
        raise error

    walk = (
        os.walk(folder, onerror=refused)
        if is_local(folder)
        else cast(Any, folder).walk(on_error=refused)
    )
    yield from ((Path(name) if isinstance(name, str) else name, inner) for name, inner, _ in walk)
