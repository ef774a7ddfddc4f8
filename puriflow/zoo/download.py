"""Downloading a file so that nothing half-downloaded is ever used.

The bytes go to `FILE.part`, which a later attempt continues by a range request if the server still
has the same file. Size and hashes are checked and the sha256 recorded before it gets its name. A
lock lets one process download and the others wait.
"""

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from puriflow.atomic import lock, publish, write_text
from puriflow.checksums import file_hash, recorded
from puriflow.errors import UserError, on_disk
from puriflow.progress import Progress
from puriflow.weight_files import is_page

BEHIND_RESULTS = False
ATTEMPTS = 4  # in a row that bring nothing
CHUNK = 2**20
LARGEST = 2**34  # bytes of a file whose size is not published: official checkpoints have 2 GB
TIMEOUT = 60
TEMPORARY = (408, 425, 429)  # and all from 500
RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]+/([0-9]{1,15}|\*)")


def download(
    url: str, target: Path, *, size: int | None = None, hashes: Mapping[str, str] | None = None
) -> None:
    """Download a file by http or https, or continue to; does nothing if `target` is there.

    It is there only when everything is right: the size in bytes and the hashes (by algorithm of
    hashlib; first digits suffice) as far as they are published.

    Raises:
        UserError: the server has no such file, sends a page, another file or a longer one, the disk
            is full, or the connection broke too often (then the next call continues).
    """
    hashes = hashes or {}
    with locked(target):
        if target.is_file():
            return
        part = target.with_name(f"{target.name}.part")
        if size is None or _length(part) != size:
            _fetch_all(url, part, size, whole_is_known=bool(hashes))
        place(part, target, size=size, hashes=hashes, what=url)
        with on_disk(target):
            _mark(part).unlink(missing_ok=True)


def place(
    part: Path, target: Path, *, size: int | None, hashes: Mapping[str, str], what: str
) -> None:
    """Give a download its name, and record its sha256, if it is right; else remove it."""
    check_file(part, size=size, hashes=hashes, what=what, remove=True)
    with on_disk(target):
        write_text(recorded(target), file_hash(part) + "\n")
        publish(part, target)


def check_file(
    file: Path, *, size: int | None, hashes: Mapping[str, str], what: str, remove: bool = False
) -> None:
    """Compare a file with its size and hashes (first digits suffice); a wrong one may be removed.

    Raises:
        UserError: they differ.
    """
    with on_disk(file):
        length = file.stat().st_size
        found_hashes = {algorithm: file_hash(file, algorithm) for algorithm in hashes}
    differences = []
    if size is not None and length != size:
        differences.append(f"it has {length} bytes, but should have {size}")
    for algorithm, digits in hashes.items():
        found = found_hashes[algorithm]
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
            why = f"answered {error.code} {_one_line(error.reason)}"
            if error.code < 500 and error.code not in TEMPORARY:
                raise UserError(f"{url} {why}") from None
        except (http.client.HTTPException, OSError) as error:
            # Of the network: `_write` sees to disks.
            why = _one_line(getattr(error, "reason", None) or error or type(error).__name__)
        except ValueError as error:  # as of a host that no address can have
            raise UserError(f"{url} cannot be asked for: {_one_line(error)}") from None
        failures = 0 if _length(part) > before else failures + 1
    raise UserError(f"{url}: {why}; {_length(part)} bytes are kept, the next fetch continues")


def _fetch(url: str, part: Path, size: int | None, *, whole_is_known: bool) -> bool:
    """One attempt; whether the whole file is there now."""
    offset = _length(part)
    headers = {}
    if offset and (tag := _tag(part)):
        headers = {"Range": f"bytes={offset}-", "If-Range": tag}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310, entries have http only
    try:
        answer = BROWSER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{offset}":
            return True  # a part that is whole already
        part.unlink()
        return False
    with answer:
        if coding := answer.headers.get("Content-Encoding"):  # which was not asked for either
            raise UserError(f"{url} is sent as {_one_line(coding)}, which is not unpacked")
        if answer.length == 0:
            raise UserError(f"{url} is empty")
        sent = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206:
            offset, sent = 0, None
        elif sent is None or int(sent[1]) != offset:
            part.unlink(missing_ok=True)  # not what was asked for: from the beginning, then
            return False
        total = size if answer.length is None else offset + answer.length
        if sent is not None and sent[2] != "*":  # of which it may send a piece only
            total = int(sent[2])
        if size is not None and total != size:
            raise UserError(f"{url} has {total} bytes, but should have {size}")
        chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if total is None and not chunked and not whole_is_known:
            raise UserError(f"{url} does not say how long it is, so that its end cannot be known")
        limit = size or LARGEST
        if total is not None and total > limit:
            raise UserError(f"{url} has {total} bytes, more than any checkpoint")
        _check_room(part, url, total, offset)
        first = answer.read(CHUNK)
        is_html = "text/html" in answer.headers.get("Content-Type", "")
        if offset == 0 and (is_html or is_page(first)):
            raise UserError(f"{url} is a web page, not a file; open it in a browser to see why")
        return _write(answer, first, part, offset, total, limit)


def _write(
    answer: http.client.HTTPResponse,
    chunk: bytes,
    part: Path,
    offset: int,
    total: int | None,
    limit: int,
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
            if done + len(chunk) > limit:
                part.unlink()  # of a file that it does not begin
                raise UserError(f"{answer.url} sends more than {limit} bytes; they were removed")
            with on_disk(part):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            progress.advance(len(chunk))
            chunk = answer.read(CHUNK)
    return total is None or done >= total


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections within the web, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See urllib.request.HTTPRedirectHandler."""
        if not newurl.startswith(("https://", f"{req.type}://")):
            raise UserError(f"{req.full_url} leads to {_one_line(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


BROWSER = urllib.request.build_opener(Redirects)


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:200]


def _check_room(part: Path, url: str, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - offset > free:
        raise UserError(
            f"{url} needs {(total - offset) / 1e6:.0f} MB more, but {part.parent} has "
            f"{free / 1e6:.0f} MB free; make room or set PURIFLOW_CACHE to another disk"
        )


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _tag(part: Path) -> str:
    """What the mark of a part says; nothing if that can be no tag of a server."""
    tag = _mark(part).read_text(errors="replace") if _mark(part).is_file() else ""
    return tag if tag.isascii() and tag.isprintable() else ""


def _mark(part: Path) -> Path:
    """Beside a part: what the server says the file is, so that only the same file is continued."""
    return part.with_name(f"{part.name}.tag")
