"""The one exception that a user is meant to read: what is wrong, where, and what is allowed."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

BEHIND_RESULTS = False


class UserError(Exception):
    """Bad input. The command line prints it as one line and exits with status 2."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """A UserError that says that `name` is not a known `what`, and names the nearest one."""
    known, name = sorted(known), name if len(name) <= 80 else f"{name[:77]}..."
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known[:20]) or "none"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return UserError(f"unknown {what} {name!r}: {hint}known are {listed}{more}")


@contextmanager
def on_disk(path: Path) -> Generator[None]:
    """Turn an error of the file system into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror or error}") from None
