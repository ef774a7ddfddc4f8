"""The one exception that a user is meant to read: what is wrong, where, and what is allowed."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb

BEHIND_RESULTS = False


class UserError(Exception):
    """Bad input. The command line prints it as one line and exits with status 2."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # a name in it may have several lines


class NotBuilt(UserError):  # noqa: N818
    """A store is not there yet, or was not finished; whatever else is wrong is no such case."""


class NotFinite(UserError):  # noqa: N818
    """What a part computed has NaN or infinity, of which nothing follows."""


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """A UserError that says that `name` is not a known `what`, and names the nearest one."""
    known, name = sorted(known), str(name)  # from Python it may be anything
    name = name if len(name) <= 80 else f"{name[:77]}..."
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known[:20]) or "none"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return UserError(f"unknown {what} {name!r}: {hint}known are {listed}{more}")


def printable(text: str) -> str:
    """Text as one line: names of files may have newlines in them, and what moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def on_disk(path: Path) -> Generator[None]:
    """Turn an error of the file system into a UserError that names the file.

    Of an address, which is no `Path` (puriflow.elsewhere), all that its library raises.
    """
    if not isinstance(path, Path):
        with reading(path):
            yield
        return
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from None


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Whatever a library raises about a file becomes a UserError of one line.

    That is nearly everything where a file is damaged: even zlib.error, MemoryError, AttributeError.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read: {message}") from None


def theirs(error: Exception, where: str, package: str) -> UserError:
    """What the code of a package from outside raised, in one line with the line of it that did."""
    said = ": ".join(filter(None, (where, type(error).__name__, str(error))))
    lines = [
        f" ({frame.f_code.co_filename}, line {number})"
        for frame, number in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return UserError(said + "".join(lines[-1:]))
