"""Hashes of files of weights, held against what is published, or kept beside them.

A flipped bit in a network loads without a word, and gives other results. Beside a file lie the
sha256 of its download or of its conversion, as `FILE.sha256`, or those of a whole folder, as
`SHA256SUMS` in the format of `sha256sum`. A file that neither knows is its owner's own.
"""

import re
from functools import cache
from pathlib import Path

from puriflow.atomic import digest
from puriflow.errors import UserError, on_disk

BEHIND_RESULTS = False
SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S.*)")


def file_hash(file: Path, algorithm: str = "sha256") -> str:
    """A hash of a file by an algorithm of hashlib, computed once for a process.

    Checkpoints have gigabytes, and many parts share one. A file that is written anew is hashed
    anew.
    """
    state = file.stat()
    return _hash_once(file, algorithm, (state.st_ino, state.st_size, state.st_mtime_ns))


@cache
def _hash_once(file: Path, algorithm: str, state: tuple[int, ...]) -> str:
    return digest(file, algorithm)


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
