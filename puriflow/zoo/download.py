"""Downloading a file so that nothing half-downloaded is ever used.

The bytes go to `FILE.part`, which a later attempt continues by a range request if the server still
has the same file. Size and hashes are checked before it gets its name. A lock lets one process
download and the others wait.
"""

import fcntl
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from puriflow.errors import Problem
from puriflow.progress import Progress

ATTEMPTS = 4
CHUNK = 2**20
TIMEOUT = 60
TEMPORARY = (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError)


def download(
    url: str, target: Path, *, size: int | None = None, hashes: Mapping[str, str] | None = None
) -> None:
    """Download `url` to `target`, or continue to; does nothing if the file is there.

    Args:
        url: http or https.
        target: gets its name only when everything is right.
        size: in bytes, where it is published.
        hashes: by algorithm of hashlib; first digits suffice.

    Raises:
        Problem: the server has no such file, sends a page or another file, the disk is full, or
            the connection broke too often (then the next call continues).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if target.is_file():
            return
        part = target.with_name(f"{target.name}.part")
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(2 ** (attempt - 1) / 4)
            try:
                if _fetch(url, part, size):
                    break
                why = "the connection ended early"
            except TEMPORARY as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise Problem(f"{url} answered {error.code} {error.reason}") from None
                why = str(getattr(error, "reason", None) or error or type(error).__name__)
        else:
            have = part.stat().st_size if part.exists() else 0
            raise Problem(f"{url}: {why}; {have} bytes are kept, the next fetch continues")
        check_file(part, size=size, hashes=hashes or {}, what=url, remove=True)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        _mark(part).unlink(missing_ok=True)


def check_file(
    file: Path, *, size: int | None, hashes: Mapping[str, str], what: str, remove: bool = False
) -> None:
    """Compare a file with its published size and hashes; a wrong one may be removed.

    Raises:
        Problem: they differ.
    """
    found = {"size": str(file.stat().st_size)}
    published = {"size": str(size)} if size is not None else {}
    for algorithm, digits in hashes.items():
        with file.open("rb") as opened:
            found[algorithm] = hashlib.file_digest(opened, algorithm).hexdigest()
        published[algorithm] = digits
    for quantity, value in published.items():
        right = found[quantity] == value
        if quantity != "size":
            right = found[quantity].startswith(value)
        if not right:
            if remove:
                file.unlink()
            gone = "; it was removed" if remove else ""
            raise Problem(f"{what}: {quantity} is {found[quantity]}, but should be {value}{gone}")


def _fetch(url: str, part: Path, size: int | None) -> bool:
    """One attempt; whether the whole file is there now."""
    offset = part.stat().st_size if part.exists() else 0
    mark = _mark(part)
    if offset and (size is None or offset < size) and mark.is_file():
        headers = {"Range": f"bytes={offset}-", "If-Range": mark.read_text()}
    else:
        offset, headers = 0, {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310, entries have http only
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        if answer.status != 206:
            offset = 0
        length = answer.headers.get("Content-Length")
        total = offset + int(length) if length else size
        if size is not None and total != size:
            raise Problem(f"{url} has {total} bytes, but should have {size}")
        _check_room(part, url, total, offset)
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        mark.write_text(tag) if tag else mark.unlink(missing_ok=True)
        first = answer.read(CHUNK)
        kind = answer.headers.get("Content-Type", "")
        if offset == 0 and ("text/html" in kind or first.lstrip()[:9].lower().startswith(PAGES)):
            raise Problem(f"{url} is a web page, not a file; open it in a browser to see why")
        return _write(answer, first, part, offset, total, url)


PAGES = (b"<!doctype", b"<html")


def _write(
    answer: http.client.HTTPResponse,
    chunk: bytes,
    part: Path,
    offset: int,
    total: int | None,
    url: str,
) -> bool:
    done = offset
    name = url.rsplit("/", 1)[-1]
    try:
        with (
            part.open("ab" if offset else "wb") as file,
            Progress(name, total=total or 0, unit="bytes", done=offset) as progress,
        ):
            while chunk:
                file.write(chunk)
                done += len(chunk)
                progress.advance(len(chunk))
                chunk = answer.read(CHUNK)
    except OSError as error:
        if isinstance(error, TEMPORARY):
            raise
        raise Problem(f"{part}: {error.strerror}; {done} bytes of {url} are kept") from None
    return total is None or done >= total


def _check_room(part: Path, url: str, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - offset > free:
        raise Problem(
            f"{url} needs {(total - offset) / 1e6:.0f} MB more, but {part.parent} has "
            f"{free / 1e6:.0f} MB free; make room or set PURIFLOW_CACHE to another disk"
        )


def _mark(part: Path) -> Path:
    """Beside a part: what the server says the file is, so that only the same file is continued."""
    return part.with_name(f"{part.name}.tag")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
