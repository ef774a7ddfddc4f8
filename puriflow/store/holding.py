"""Who writes a store: one process, for which all others wait, on this host and on others.

A lock of the kernel (`flock`) ends with its process, and on a network file system with its host, as
a rule. So the holder moves the time of the lock file as a sign of life: who waits can tell a host
that is gone from one that is slow. Where there is no `flock`, a *soft lock* stands for it: a file
whose holder has given no sign of life for `SILENT` seconds passes for dead, and loses it.
"""

import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO

from puriflow.atomic import NO_LOCKS, lock
from puriflow.errors import UserError

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
BEAT = 30.0  # seconds between two signs of life
SILENT = 600.0  # seconds without one, after which a host passes for dead
POLL = 1.0  # seconds between two looks at a lock


class Holding:
    """A store's lock, held from `hold` to `close`, or until this process ends.

    Attributes:
        path: of the file that is held.
        is_soft: whether that file is there or not is all that keeps others out.
    """

    def __init__(self, path: Path, said: str, file: IO[str] | None):
        self.path, self.is_soft = path, file is None
        self._said, self._file, self._closed = said, file, threading.Event()

    def begin(self) -> "Holding":
        """Give signs of life from now on."""
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def check(self) -> None:
        """Make sure that nobody has taken a soft lock over.

        Raises:
            UserError: somebody has, or has removed it.
        """
        if self.is_soft and content(self.path) != self._said:
            raise UserError(
                f"{self.path} was taken over, as this process had given no sign of life for "
                f"{SILENT / 60:g} minutes: nothing was put in place; run this again"
            )

    def remove(self) -> None:
        """Remove the file that is held; whoever waits for it makes it anew."""
        if not self.is_soft or content(self.path) == self._said:
            self.path.unlink()

    def close(self) -> None:
        """Let another process have it."""
        self._closed.set()
        if self._file is not None:
            self._file.close()
        else:
            with suppress(OSError):
                self.remove()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            with suppress(
                OSError, ValueError
            ):  # a disk that is away for a while, a file just closed
                if not self.is_soft or content(self.path) == self._said:
                    os.utime(self.path)


def hold(path: Path, store: Path) -> Holding:
    """Hold the lock file of a store; whoever holds it is waited for, with a line.

    Raises:
        OSError: the file cannot be made, or is a link.
    """
    found = take(path)
    if waited := found is None:
        holder = _Holder(path)
        log.info(f"store {store} is being written by {holder}: waiting for it")
        while found is None:
            time.sleep(POLL)
            if holder.is_silent():
                holder.gone()
            found = take(path)
    if found.is_soft and not waited:
        log.info(
            f"the file system of {store} has no locks (flock): {found.path.name} keeps others out, "
            f"for as long as this process gives a sign of life every {SILENT / 60:g} minutes"
        )
    return found.begin()


def held_by_another(path: Path) -> bool:
    """Whether another process holds a store's lock file."""
    if (held := take(path)) is None:
        return True
    held.close()
    return False


def content(file: Path) -> str:
    """What a lock file says of its holder."""
    try:
        return file.read_text(errors="replace")[:200]
    except OSError:
        return ""


def take(path: Path) -> Holding | None:
    """The lock of a file, or where its file system has none the soft one; None if it is held."""
    me = f"process {os.getpid()} on {socket.gethostname()}\n"
    try:
        file = lock(path, wait=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        path.unlink(missing_ok=True)
        return _take_soft(path.with_name(f"{path.name}.soft"), f"{me}{uuid.uuid4().hex}")
    if file is None:
        return None
    file.truncate(0)
    file.write(me)
    file.flush()
    return Holding(path, me, file)


def _take_soft(path: Path, me: str) -> Holding | None:
    path.parent.mkdir(exist_ok=True)  # who held it may have removed the folder
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
    with os.fdopen(handle, "w") as file:
        file.write(me)
    return Holding(path, me, None)


class _Holder:
    """Who holds a lock, and how long without a sign of life, by the clock of this host alone."""

    def __init__(self, path: Path):
        self.path, self.told = path, False
        self.sign, self.since = self._sign(), time.monotonic()

    def __str__(self) -> str:
        return self.sign[1].partition("\n")[0] or "another process"

    @property
    def file(self) -> Path:
        """What is held: the soft lock, if there is one."""
        soft = self.path.with_name(f"{self.path.name}.soft")
        return soft if soft.exists() else self.path

    def _sign(self) -> tuple[int, str]:
        file = self.file
        try:
            return file.stat().st_mtime_ns, content(file)
        except OSError:
            return 0, ""

    def is_silent(self) -> bool:
        """Whether it has given no sign for `SILENT` seconds."""
        if (sign := self._sign()) != self.sign:
            self.sign, self.since, self.told = sign, time.monotonic(), False
        return time.monotonic() - self.since >= SILENT

    def gone(self) -> None:
        """Of one that is silent: remove its soft lock, or say what may be removed."""
        silent = f"{self} has given no sign of life for {SILENT / 60:g} minutes"
        if (soft := self.file) != self.path:
            self._remove(soft)
            log.warning(f"{silent}: its lock is gone")
        elif not self.told:
            self.told = True
            log.warning(f"{silent}; if its host is dead, remove {self.path}, and this goes on")

    def _remove(self, soft: Path) -> None:
        """Remove the soft lock of this holder, not that of another which has taken it since."""
        aside = soft.with_name(f"{soft.name}.{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):  # another that waits was first
            os.rename(soft, aside)
            if content(aside) != self.sign[1]:
                with suppress(FileExistsError):
                    os.link(aside, soft)
            aside.unlink()
