"""Files that are there whole or not at all: locks, temporary files that take a name, and sha256.

A *sealed* file carries the sha256 of what it holds. Work under way is kept in such files: a killed
job goes on from them, and a flipped bit would end in other results under a valid manifest.
"""

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, overload

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
DIGEST = 32  # bytes at the end of a sealed file
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # Lustre, some NFS


class Replacing:
    """A temporary sibling that takes the place of `path` when all went well, safe on the disk."""

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                publish(self.temporary, self.path)
        finally:  # of a full disk not even a half is kept
            with suppress(OSError):
                self.temporary.unlink()


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
    if not os.path.lexists(path):
        return None
    if (content := sealed_content(path)) is None:
        drop(path)
    return content


def sealed_content(path: Path) -> bytes | None:
    """The content of a sealed file; None if it cannot be read, or is not as it was written."""
    try:
        whole = path.read_bytes()
    except OSError:  # a bad sector, a folder in its place
        return None
    content, seal = whole[:-DIGEST], whole[-DIGEST:]
    return content if hashlib.sha256(content).digest() == seal else None


def drop(path: Path) -> None:
    """Remove what work under way cannot go on from, and say so."""
    remove(path)
    log.warning(f"{path} was damaged: it is dropped, and what it held is made anew")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def publish(temporary: Path, path: Path, *, aside: Path | None = None) -> None:
    """Give a file or a folder its name, once all of it is on the disk.

    What has that name is replaced; a folder cannot be, and is moved to `aside` first, or back if
    that fails.
    """
    for inner in [*temporary.rglob("*"), temporary]:
        sync(inner)
    moved = aside if aside is not None and path.exists() else None
    if moved is not None:
        os.rename(path, moved)
    try:
        os.replace(temporary, path)
    except OSError:
        if moved is not None:
            os.rename(moved, path)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot, and say so of a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
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

    Raises:
        OSError: it cannot be made, is a link, or its file system has no locks. A file that is there
            or not would be none in their place: of a killed job on another host it would stay.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(_open_without_links(path), "a+")
        except FileNotFoundError:  # who held it has removed the folder, since it was made
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            file.close()
            if error.errno in NO_LOCKS:
                text = "its file system has no locks (flock): mount it with them, or use another"
                raise OSError(error.errno, text, str(path)) from None
            raise
        # Who held it may have removed it meanwhile: then it keeps nobody out any more.
        if _is(path, file):
            return file
        file.close()


def _open_without_links(path: Path) -> int:
    """Open a file to read and add to; of a link, what it leads to would be made, or changed."""
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(error.errno, "is a link, which a lock must not be", str(path)) from None


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
    with Path(path).open("rb") if isinstance(path, str) else path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
