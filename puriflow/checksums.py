"""Hashes of files, remembered as long as these stay as they are, and what those of weights must be.

A file is known by its path, size, inode and times, also that of its last change, which no command
sets back. Hashes are remembered where the workflow runs, so that planning with 50,000 images is
cheap, and elsewhere for the process alone; so is whatever else is read of a file's content alone.

A flipped bit in a network loads without a word, and gives other results. Beside a file of weights
lie the sha256 of its download or of its conversion, as `FILE.sha256`, or those of a whole folder,
as `SHA256SUMS` in the format of `sha256sum`. A file that neither knows is its owner's own.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from puriflow.atomic import digest, lock, sealed_content, write_sealed
from puriflow.errors import UserError, on_disk

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
MEMORY = Path(".snakemake/puriflow/checksums")  # below the folder in which the workflow runs
MUCH = 2**30  # bytes, whose hashing is announced
SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S.*)")
# By what is known and path, the state of the file and the hash, or other plain data, that it had.
Known = dict[str, tuple[list[int], Any]]
known: Known = {}  # to this process


def file_hash(file: Path, algorithm: str = "sha256") -> str:
    """A hash of a file by an algorithm of hashlib; see `file_hashes`."""
    return file_hashes([file], algorithm)[0]


def file_hashes(files: Sequence[Path], algorithm: str = "sha256") -> list[str]:
    """Hashes of files, of which only those are read that are not known as they are now.

    Raises:
        OSError: one is not there, or cannot be read.
    """
    return remembered(files, algorithm, partial(_hashed, algorithm=algorithm))


def _hashed(files: Sequence[str], algorithm: str) -> list[str]:
    if (size := sum(os.path.getsize(file) for file in files)) > MUCH:
        text = f"hashing {len(files)} files ({size / 2**30:.1f} GB), once as long as they stay"
        log.info(text)
    with ThreadPoolExecutor() as pool:  # hashlib lets others run
        return list(pool.map(partial(digest, algorithm=algorithm), files))


def remembered(
    files: Sequence[Path], what: str, compute: Callable[[Sequence[str]], Sequence[Any]]
) -> list[Any]:
    """What is computed of files, of those alone of which it is not known as they are now.

    Args:
        files: that are there.
        what: it is, as a name; another one if it is computed otherwise.
        compute: of paths, plain data of each, by the content of that file and nothing else.

    Raises:
        OSError: a file is not there, or cannot be read.
    """
    asked = {_key(file, what): _state(file) for file in files}
    if not all(_is_known(key, state) for key, state in asked.items()):
        known.update(_remembered())
    new = {key: state for key, state in asked.items() if not _is_known(key, state)}
    if new:
        found = compute([key.partition(":")[2] for key in new])
        computed = {k: (new[k], value) for k, value in zip(new, found, strict=True)}
        known.update(computed)
        _remember(lambda kept: kept | computed)
    return [known[_key(file, what)][1] for file in files]


def forget(files: Iterable[Path]) -> None:
    """Hash files anew when they are asked for next: a disk may lose bits without a new time."""
    paths = {os.path.abspath(file) for file in files}
    for key in [key for key in known if key.partition(":")[2] in paths]:
        del known[key]
    _remember(lambda kept: {k: v for k, v in kept.items() if k.partition(":")[2] not in paths})


def _key(file: Path, what: str) -> str:
    return f"{what}:{os.path.abspath(file)}"


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _is_known(key: str, state: list[int]) -> bool:
    return key in known and known[key][0] == state


def _remembered() -> Known:
    """What other processes hashed; nothing if that is damaged."""
    content = sealed_content(MEMORY)
    return {} if content is None else {key: tuple(v) for key, v in json.loads(content).items()}


def _remember(change: Callable[[Known], Known]) -> None:
    """Change what other processes know, where the workflow runs and the disk lets it."""
    if MEMORY.parent.is_dir():
        with suppress(OSError), lock(MEMORY.with_name(f"{MEMORY.name}.lock"), wait=True):
            write_sealed(MEMORY, json.dumps(change(_remembered())).encode())


def compare(file: Path, algorithm: str, digits: str, *, says: str, cure: str) -> None:
    """Compare a file with a hash, of which the first digits suffice.

    Args:
        file: of weights.
        algorithm: of hashlib.
        digits: in hexadecimal.
        says: who says that the hash should be this one, for the error.
        cure: what to do if it is not.

    Raises:
        UserError: it has another hash, or cannot be read.
    """
    with on_disk(file):
        found = file_hash(file, algorithm)
    if not found.startswith(digits.lower()):
        raise UserError(
            f"weights file {file} is not what it was: its {algorithm} is {found}, but {says} says "
            f"{digits.lower()}; {cure}"
        )


def check_beside(file: Path) -> None:
    """Compare a file with what is kept beside it; does nothing if that says nothing of it.

    Raises:
        UserError: they differ, or what is kept is no sha256.
    """
    if (kept := recorded_hash(file)) is not None:
        cure = "remove both, and fetch or convert it again"
        compare(file, "sha256", kept, says=recorded(file).name, cure=cure)
    sums = file.with_name(SUMS)
    if (listed := read_sums(sums).get(file.name)) is not None:
        cure = "get it back, or write its line anew by sha256sum if this is the one you mean"
        compare(file, "sha256", listed, says=str(sums), cure=cure)


def recorded(file: Path) -> Path:
    """Where the sha256 of a download or of a conversion is kept."""
    return file.with_name(f"{file.name}.sha256")


def recorded_hash(file: Path) -> str | None:
    """The sha256 that was recorded of a file, if any."""
    text = _text(recorded(file))
    if text is None:
        return None
    words = text.split()
    if not words or not re.fullmatch("[0-9a-fA-F]{64}", words[0]):
        raise UserError(f"{recorded(file)} holds no sha256: remove it, and fetch {file.name} again")
    return words[0].lower()


def read_sums(sums: Path) -> dict[str, str]:
    """The sha256 of the files of a folder, by name, as its SHA256SUMS lists them."""
    listed = {}
    for number, line in enumerate((_text(sums) or "").splitlines(), 1):
        if not (found := LINE.fullmatch(line)):
            raise UserError(f"{sums}, line {number}: no line of sha256sum; write the file anew")
        listed[str(Path(found[2]))] = found[1].lower()
    return listed


def _text(file: Path) -> str | None:
    """What a small file says; None if it is not there."""
    with on_disk(file):
        return file.read_text(errors="replace") if file.is_file() else None
