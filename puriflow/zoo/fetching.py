"""Getting an entry of the catalogue onto this machine, and checking what is there."""

from pathlib import Path

from puriflow.atomic import write_text
from puriflow.errors import UserError, on_disk
from puriflow.zoo.catalogue import Entry, Zoo
from puriflow.zoo.download import check_file, download, locked, recorded

BEHIND_RESULTS = False


def fetch(zoo: Zoo, name: str) -> Path:
    """Make an entry ready to be loaded, from the user's folders, the cache or the internet.

    A file that was not downloaded by this is checked once. Where the entry has a converter, the
    converted file is made.

    Raises:
        UserError: the entry is unknown, must be fetched by hand, or the file is not right.
    """
    what = zoo.entry(name)
    source = zoo.find(name, what.file)
    if source is None and (ready := zoo.find(name, what.ready)):
        return ready  # converted before, the official file gone
    if source is None:
        source = zoo.cached(name, what.file)
        _download(zoo, name, what, source)
    elif not recorded(source).is_file():
        _check_once(zoo, name, what, source)
    if not what.convert:
        return source
    from puriflow.zoo.convert import convert

    target = zoo.cached(name, what.ready)
    with locked(target):
        if not target.is_file():
            convert(what.convert, source, target, what.family, what.part)
    return target


def verify(zoo: Zoo, name: str) -> str:
    """Say how an entry's official file compares with its published size and hashes, and its own.

    Raises:
        UserError: the file is not here, or differs.
    """
    what = zoo.entry(name)
    file = zoo.find(name, what.file)
    if file is None:
        raise UserError(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    check_file(file, size=what.size, hashes=what.hashes, what=str(file))
    compared = [*(["size"] if what.size else []), *what.hashes]
    if recorded(file).is_file():
        hashes = {"sha256": recorded(file).read_text().split()[0]}
        check_file(file, size=None, hashes=hashes, what=str(file))
        compared.append("the sha256 of the download")
    if not compared:
        return f"{file}: present; no size or hash is published or recorded"
    return f"{file}: {', '.join(compared)} right"


def _download(zoo: Zoo, name: str, what: Entry, target: Path) -> None:
    if what.url is None:
        raise zoo.by_hand(name)
    try:
        download(what.url, target, size=what.size, hashes=what.hashes)
    except UserError as problem:
        if what.by_hand is None:
            raise
        raise UserError(f"{problem}; {zoo.by_hand(name)}") from None


def _check_once(zoo: Zoo, name: str, what: Entry, file: Path) -> None:
    """Check a file that somebody put here; remembered in the cache while it stays as it is."""
    state = f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}"
    mark = zoo.cached(name, f"{what.file}.checked")
    if mark.is_file() and mark.read_text() == state:
        return
    check_file(file, size=what.size, hashes=what.hashes, what=str(file))
    with on_disk(mark):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_text(mark, state)
