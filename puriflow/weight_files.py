"""Files of weights that parts load: what tells one from others, and what is published of it.

A file of the zoo is an official one, or made from one by a converter. Nothing here imports torch: a
plan asks all of it. Hashes are remembered (puriflow.checksums), so that it is cheap.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from puriflow.checksums import compare, file_hash, recorded_hash
from puriflow.errors import UserError, on_disk

BEHIND_RESULTS = False
PAGES = (b"<!doctype", b"<html")
MADE_FROM = "made_from_sha256"  # what a conversion says of its official file
LONGEST = 2**27  # bytes of the header of a safetensors file


@dataclass(frozen=True)
class Weights:
    """A file of weights that a part loads."""

    name: str  # what the configuration says, a path or `zoo:NAME`
    file: Path  # where it is, or will be once it is fetched
    published: str | None = None  # of the zoo's: tells it from others before it is here
    hashes: tuple[tuple[str, str], ...] = ()  # published: algorithms, and (first) digits
    size: int | None = None  # published, in bytes
    source: Path | None = None  # the official file, where another one is made of it
    inner: str = ""  # which of several networks in it, where there are more

    @property
    def label(self) -> str:
        """What it is called on record, in whatever folder it is: `zoo:NAME` or the file's name."""
        return self.file.name if self.published is None else self.name

    @property
    def official(self) -> Path:
        """The file of which hashes and size are published."""
        return self.source or self.file

    @property
    def identity(self) -> str | None:
        """The same as `_of_file`, and which network of the file it is, where there are several."""
        identity = self._of_file
        return identity if identity is None or not self.inner else f"{identity}:{self.inner}"

    @property
    def _of_file(self) -> str | None:
        """What tells these weights from others, whatever they are called and wherever they are.

        The published hash, if there is one and what is here is not another file; so fetching
        changes nothing. Else the sha256 of the official file: of a conversion, that which it was
        made from; of a download that is gone, as it was recorded. None of another file that is not
        here.
        """
        if self.official.is_file():
            same = all(file_hash(self.official, a).startswith(d.lower()) for a, d in self.hashes)
            return self.published if self.hashes and same else file_hash(self.official)
        if self.file.is_file():  # a conversion
            made = (made_from(self.file) or file_hash(self.file)).partition(":")[0]
            others = (d for a, d in self.hashes if a == "sha256" and not made.startswith(d.lower()))
            return made if not self.hashes or any(others) else self.published
        kept = None if self.hashes or self.published is None else recorded_hash(self.official)
        return kept or self.published

    @property
    def is_current(self) -> bool:
        """Whether it is here, and of a conversion whether it was made from what is here."""
        if not self.file.is_file() or self.source is None or not self.source.is_file():
            return self.file.is_file()
        return made_from(self.file) == made_of(self.source, self.inner)

    def check(self) -> None:
        """Compare the file with what is published; that of a user's own needs to be here.

        Raises:
            UserError: it is not here, is another one, or was made from another one.
        """
        if not self.file.is_file():
            if self.published is None:
                raise UserError(f"weights file {self.file} does not exist")
            raise UserError(f"the weights {self._entry} are not here; get them by: {self._fetch}")
        if self.official.is_file():
            self.check_official()
        elif self._of_file != self.published and self.hashes:
            why = f"was made from another file than the published one of zoo entry {self._entry}"
            raise UserError(f"weights file {self.file} {why}; remove it, and call: {self._fetch}")
        if not self.is_current:
            why = f"was not made from {self.source}, which is here now"
            raise UserError(f"weights file {self.file} {why}; remove it, and call: {self._fetch}")

    def check_official(self) -> None:
        """Compare the official file with the published size and hash; see `check`."""
        file, says = self.official, f"zoo entry {self._entry}"
        cure = f"remove it, and get it again by: {self._fetch}"
        check_no_page(file)
        with on_disk(file):
            length = file.stat().st_size
        if self.size not in (None, length):
            what = f"it has {length} bytes, but {says} says {self.size}"
            raise UserError(f"weights file {file} is not what it was: {what}; {cure}")
        for algorithm, digits in self.hashes:
            compare(file, algorithm, digits, says=says, cure=cure)

    @property
    def _entry(self) -> str:
        return self.name.partition(":")[2]

    @property
    def _fetch(self) -> str:
        return f"puriflow zoo fetch {self._entry}"


def is_page(first: bytes) -> bool:
    """Whether a file that begins like this is a web page: a browser saves one under any name."""
    return first.lstrip()[:9].lower().startswith(PAGES)


def check_no_page(file: Path) -> None:
    """Refuse a web page; a UserError."""
    with on_disk(file), file.open("rb") as opened:
        first = opened.read(1024)
    if is_page(first):
        why = "is a web page, not a file of weights; open it in a browser to see why"
        raise UserError(f"weights file {file} {why}")


def made_of(official: Path, inner: str) -> str:
    """What a conversion says of the file that it is made from, and of the network in it."""
    return f"{file_hash(official)}:{inner}" if inner else file_hash(official)


def made_from(conversion: Path) -> str | None:
    """What a conversion was made from (see `made_of`), as it says itself.

    None if it does not say: an older one, or somebody else's.
    """
    with on_disk(conversion), conversion.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length) if length <= LONGEST else b""
    try:
        return json.loads(header)["__metadata__"][MADE_FROM]
    except (ValueError, KeyError, TypeError):
        return None
