"""Getting an entry of the catalogue onto this machine, and checking what is there."""

from pathlib import Path

from puriflow.checksums import check_beside, recorded_hash
from puriflow.errors import UserError
from puriflow.zoo.catalogue import Entry, Zoo
from puriflow.zoo.download import check_file, download, locked

BEHIND_RESULTS = False


def fetch(zoo: Zoo, name: str) -> Path:
    """Make an entry ready to be loaded, from the user's folders, the cache or the internet.

    What is here already is checked, and left as it is. Where the entry has a converter, the
    converted file is made.

    Raises:
        UserError: the entry is unknown, must be fetched by hand, or the file is not right.
    """
    what = zoo.entry(name)
    source = zoo.find(name, what.file)
    if source is None and (ready := zoo.find(name, what.ready)):
        check_beside(ready)  # converted before, the official file gone
        return ready
    if source is None:
        source = zoo.cached(name, what.file)
        _download(zoo, name, what, source)
    else:
        check_official(what, source)
    if not what.convert:
        return source
    from puriflow.zoo.convert import convert

    target = zoo.cached(name, what.ready)
    with locked(target):
        if target.is_file():
            check_beside(target)
        else:
            convert(what.convert, source, target, what.family, what.part)
    return target


def verify(zoo: Zoo, name: str) -> str:
    """Say how the files of an entry compare with its published size and hashes, and recorded ones.

    Raises:
        UserError: none is here, or one differs.
    """
    what = zoo.entry(name)
    found = [zoo.find(name, file) for file in dict.fromkeys((what.file, what.ready))]
    here = [file for file in found if file is not None]
    if not here:
        raise UserError(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    return "; ".join(_verified(what, file) for file in here)


def check_official(what: Entry, file: Path) -> None:
    """Compare an official file with what is published, and with what is recorded beside it.

    Raises:
        UserError: they differ.
    """
    check_file(file, size=what.size, hashes=what.hashes, what=str(file))
    check_beside(file)


def _verified(what: Entry, file: Path) -> str:
    compared = []
    if file.name == what.file:
        check_official(what, file)
        compared = [*(["size"] if what.size else []), *what.hashes]
    else:
        check_beside(file)
    if recorded_hash(file) is not None:
        made = "download" if file.name == what.file else "conversion"
        compared.append(f"the sha256 of the {made}")
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
