"""Downloading a file so that nothing half-downloaded is ever used.

The bytes go to `FILE.part`, which a later attempt continues by a range request if the server still
has the same file. Size and hashes are checked and the sha256 recorded before it gets its name. A
lock lets one process download and the others wait.
"""

import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from puriflow.atomic import digest, lock, publish, sha256, write_text
from puriflow.errors import UserError, on_disk
from puriflow.progress import Progress

BEHIND_RESULTS = False
ATTEMPTS = 4  # in a row that bring nothing
CHUNK = 2**20
TIMEOUT = 60
TEMPORARY = (408, 425, 429)  # and all from 500
PAGES = (b"<!doctype", b"<html")


def download(
    url: str, target: Path, *, size: int | None = None, hashes: Mapping[str, str] | None = None
) -> None:
    """Download a file by http or https, or continue to; does nothing if `target` is there.

    It is there only when everything is right: the size in bytes and the hashes (by algorithm of
    hashlib; first digits suffice) as far as they are published.

    Raises:
        UserError: the server has no such file, sends a page or another file, the disk is full, or
            the connection broke too often (then the next call continues).
    """
    hashes = hashes or {}
    with locked(target):
        if target.is_file():
            return
        part = target.with_name(f"{target.name}.part")
        if size is None or _length(part) != size:
            _fetch_all(url, part, size, whole_is_known=bool(hashes))
        check_file(part, size=size, hashes=hashes, what=url, remove=True)
        with on_disk(target):
            write_text(recorded(target), sha256(part) + "\n")
            publish(part, target)
            _mark(part).unlink(missing_ok=True)


def check_file(
    file: Path, *, size: int | None, hashes: Mapping[str, str], what: str, remove: bool = False
) -> None:
    """Compare a file with its size and hashes (first digits suffice); a wrong one may be removed.

    Raises:
        UserError: they differ.
    """
    length = file.stat().st_size
    differences = []
    if size is not None and length != size:
        differences.append(f"it has {length} bytes, but should have {size}")
    for algorithm, digits in hashes.items():
        found = digest(file, algorithm)
        if not found.startswith(digits.lower()):
            differences.append(f"its {algorithm} is {found}, but should be {digits}")
    if differences:
        if remove:
            file.unlink()
        raise UserError(f"{what}: {differences[0]}{'; it was removed' if remove else ''}")


@contextmanager
def locked(target: Path) -> Generator[None]:
    """Be the only process that makes `target`, whose folder is made if need be."""
    with on_disk(target):
        held = lock(target.with_name(f".{target.name}.lock"), wait=True)
    assert held is not None  # it waited
    with held:
        yield


def recorded(file: Path) -> Path:
    """Where the sha256 of a download is kept."""
    return file.with_name(f"{file.name}.sha256")


def _fetch_all(url: str, part: Path, size: int | None, *, whole_is_known: bool) -> None:
    failures, why = 0, ""
    while failures < ATTEMPTS:
        if failures:
            time.sleep(2 ** (failures - 1) / 4)
        before = _length(part)
        try:
            if _fetch(url, part, size, whole_is_known=whole_is_known):
                return
            why = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in TEMPORARY:
                raise UserError(f"{url} answered {error.code} {error.reason}") from None
            why = f"answered {error.code} {error.reason}"
        except (http.client.HTTPException, OSError) as error:
            # Of the network: `_write` sees to disks.
            why = str(getattr(error, "reason", None) or error or type(error).__name__)
        failures = 0 if _length(part) > before else failures + 1
    raise UserError(f"{url}: {why}; {_length(part)} bytes are kept, the next fetch continues")


def _fetch(url: str, part: Path, size: int | None, *, whole_is_known: bool) -> bool:
    """One attempt; whether the whole file is there now."""
    offset, mark = _length(part), _mark(part)
    headers = {}
    if offset and mark.is_file():
        headers = {"Range": f"bytes={offset}-", "If-Range": mark.read_text()}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310, entries have http only
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{offset}":
            return True  # a part that is whole already
        part.unlink()
        return False
    with answer:
        if answer.status != 206:
            offset = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            part.unlink()  # not what was asked for: from the beginning, then
            return False
        length = answer.headers.get("Content-Length")
        total = offset + int(length) if length else size
        if size is not None and total != size:
            raise UserError(f"{url} has {total} bytes, but should have {size}")
        chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if total is None and not chunked and not whole_is_known:
            raise UserError(f"{url} does not say how long it is, so that its end cannot be known")
        _check_room(part, url, total, offset)
        first = answer.read(CHUNK)
        is_html = "text/html" in answer.headers.get("Content-Type", "")
        if offset == 0 and (is_html or first.lstrip()[:9].lower().startswith(PAGES)):
            raise UserError(f"{url} is a web page, not a file; open it in a browser to see why")
        return _write(answer, first, part, offset, total)


def _write(
    answer: http.client.HTTPResponse, chunk: bytes, part: Path, offset: int, total: int | None
) -> bool:
    done = offset
    with on_disk(part):
        if offset == 0:  # the old bytes go before the new tag comes
            _mark(part).unlink(missing_ok=True)
        file = part.open("ab" if offset else "wb")
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if offset == 0 and tag:
            _mark(part).write_text(tag)
    name = part.name.removesuffix(".part")
    with file, Progress(name, total=total or 0, unit="bytes", done=offset) as progress:
        while chunk:
            with on_disk(part):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            progress.advance(len(chunk))
            chunk = answer.read(CHUNK)
    return total is None or done >= total


def _check_room(part: Path, url: str, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - offset > free:
        raise UserError(
            f"{url} needs {(total - offset) / 1e6:.0f} MB more, but {part.parent} has "
            f"{free / 1e6:.0f} MB free; make room or set PURIFLOW_CACHE to another disk"
        )


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _mark(part: Path) -> Path:
    """Beside a part: what the server says the file is, so that only the same file is continued."""
    return part.with_name(f"{part.name}.tag")
