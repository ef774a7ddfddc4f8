"""Files that are there whole or not at all: locks, temporary files that take a name, and sha256.

A *sealed* file carries the sha256 of what it holds. Work under way is kept in such files: a killed
job goes on from them, and a flipped bit would end in other results under a valid manifest.
"""

import fcntl
import hashlib
import os
import uuid
from pathlib import Path
from typing import IO, Literal, overload

BEHIND_RESULTS = False
DIGEST = 32  # bytes at the end of a sealed file


class Replacing:
    """A temporary sibling that takes the place of `path` when all went well, safe on the disk."""

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            publish(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small file, in place of one that may be there."""
    with Replacing(path) as temporary:
        temporary.write_text(text)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a sealed file, in place of one that may be there."""
    with Replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.write(hashlib.sha256(content).digest())


def read_sealed(path: Path) -> bytes | None:
    """The content of a sealed file; None if there is none, or it is not as it was written.

    A damaged one is removed, and a line says so.
    """
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    content, digest = whole[:-DIGEST], whole[-DIGEST:]
    if hashlib.sha256(content).digest() == digest:
        return content
    path.unlink()
    print(f"{path} was damaged: it is dropped, and what it held is made anew", flush=True)
    return None


def publish(temporary: Path, path: Path) -> None:
    """Give a file or a folder its name, once all of it is on the disk."""
    for inner in [*temporary.rglob("*"), temporary]:
        sync(inner)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@overload
def lock(path: Path, *, wait: Literal[True]) -> IO[str]: ...
@overload
def lock(path: Path, *, wait: bool) -> IO[str] | None: ...
def lock(path: Path, *, wait: bool) -> IO[str] | None:
    """Hold a lock file, which is made with its folder, until the returned file is closed.

    Or until this process dies. The file may be read and added to: what was in it stays. None if
    another process holds it and `wait` is false.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        # Who held it may have removed it meanwhile: then it keeps nobody out any more.
        if _is(path, file):
            return file
        file.close()


def _is(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def sha256(path: str | Path) -> str:
    """sha256 of a file, in hexadecimal."""
    return digest(path, "sha256")


def digest(path: str | Path, algorithm: str) -> str:
    """A hash of a file by an algorithm of hashlib, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
