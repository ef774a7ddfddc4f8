"""Getting an entry of the catalogue onto this machine, and checking what is there."""

from pathlib import Path

from puriflow.errors import Problem
from puriflow.provenance import file_hash
from puriflow.zoo.catalogue import Entry, cached, entry, find
from puriflow.zoo.download import check_file, download


def fetch(name: str) -> Path:
    """Make an entry ready to be loaded, from the user's folders, the cache or the internet.

    A new file is checked and its sha256 recorded beside it; where the entry has a converter, the
    converted file is made.

    Raises:
        Problem: the entry is unknown, must be fetched by hand, or the file is not right.
    """
    what = entry(name)
    ready = find(name, what.ready)
    if ready is not None:
        return ready
    source = find(name, what.file) or _download(name, what)
    if not what.convert:
        return source
    from puriflow.zoo.convert import convert

    check_file(source, size=what.size, hashes=published(what), what=str(source))
    target = cached(name, what.ready)
    target.parent.mkdir(parents=True, exist_ok=True)
    convert(what.convert, source, target, what.part)
    return target


def verify(name: str) -> str:
    """Check an entry's official file against its published size and hashes, or the recorded one.

    Returns:
        What was compared.

    Raises:
        Problem: the file is not here, or differs.
    """
    what = entry(name)
    file = find(name, what.file)
    if file is None:
        raise Problem(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    hashes = published(what)
    recorded = _recorded(file)
    if recorded.is_file():
        hashes = {"sha256": recorded.read_text().strip(), **hashes}
    check_file(file, size=what.size, hashes=hashes, what=str(file))
    if what.size is None and not hashes:
        return f"{file}: present; no size or hash is published or recorded"
    compared = [*(["size"] if what.size else []), *hashes]
    return f"{file}: {', '.join(compared)} right"


def published(what: Entry) -> dict[str, str]:
    """The hashes that an entry publishes, by algorithm."""
    pairs = {"sha256": what.sha256, "md5": what.md5}
    return {algorithm: digits for algorithm, digits in pairs.items() if digits}


def _download(name: str, what: Entry) -> Path:
    target = cached(name, what.file)
    if what.url is None:
        raise Problem(
            f"{name} must be fetched by hand: save {what.by_hand} as {target} (or as {what.file} "
            "in a folder of PURIFLOW_WEIGHTS), and call this again"
        )
    download(what.url, target, size=what.size, hashes=published(what))
    _recorded(target).write_text(file_hash(target) + "\n")
    return target


def _recorded(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")
