"""Progress of a long stage: done, rate and time left, on standard error.

A bar on a terminal, a line that is rewritten in a notebook, a line every ten seconds in a log;
nothing where PuriFlow is to be quiet.
"""

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

import psutil

from puriflow.messages import is_quiet

if TYPE_CHECKING:
    from rich.progress import Progress as Rich

BEHIND_RESULTS = False
EVERY = 10  # seconds between two lines of a log
CELL_EVERY, CELL_BAR = 0.5, 30  # of a notebook: seconds between two looks, characters of its bar
log = logging.getLogger(__name__)


def startup() -> float:
    """Seconds since this process began: what importing and building took, before a stage runs."""
    return time.time() - psutil.Process().create_time()


class Progress:
    """Counts what is done, and shows it.

    Of `total` units (images, steps), `done` were done before, in an earlier run.
    """

    def __init__(self, name: str, *, total: int, unit: str = "images", done: int = 0):
        self.name, self.total, self.unit = name, total, unit
        self.first = self.done = done
        self.view: View = _view()

    def __enter__(self) -> Self:
        self.started = self.now = time.monotonic()
        self.view.begin(self)
        return self

    def advance(self, count: int) -> None:
        """Say that `count` more are done."""
        self.done += count
        self.now = time.monotonic()
        self.view.show(self)

    @property
    def rate(self) -> float:
        """Units a second, of this run."""
        return (self.done - self.first) / max(self.now - self.started, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that are left; None as long as nothing says it."""
        if self.done == self.total:
            return 0
        known = self.rate and self.done < self.total  # a download's size may not be
        return (self.total - self.done) / self.rate if known else None

    def __str__(self) -> str:
        seconds = self.left
        left = "?" if seconds is None else f"{int(seconds // 60)}:{int(seconds % 60):02d}"
        return (
            f"{self.name}: {self.done}/{self.total} {self.unit}, {self.rate:.3g} {self.unit}/s, "
            f"{left} left"
        )

    def __exit__(self, *_: object) -> None:
        self.view.end(self)


class View(Protocol):
    """Where progress is seen."""

    def begin(self, progress: Progress) -> None: ...
    def show(self, progress: Progress) -> None: ...
    def end(self, progress: Progress) -> None: ...


class Nowhere:
    """Where PuriFlow is to be quiet."""

    def begin(self, progress: Progress) -> None:
        pass

    show = end = begin


class Log:
    """A line every ten seconds, and when all is done; `puriflow status` reads them."""

    def begin(self, progress: Progress) -> None:
        self.said = progress.now
        if done := progress.done:
            log.info(f"{progress.name}: {done}/{progress.total} {progress.unit} were done before")

    def show(self, progress: Progress) -> None:
        if progress.now - self.said >= EVERY or progress.done == progress.total:
            self.said = progress.now
            log.info(progress)

    def end(self, progress: Progress) -> None:
        pass


class Terminal:
    """A bar, in colours unless NO_COLOR is set."""

    def begin(self, progress: Progress) -> None:
        self.bar = _bar(progress)
        self.bar.start()

    def show(self, progress: Progress) -> None:
        self.bar.update(self.bar.task_ids[0], completed=progress.done, rate=progress.rate)

    def end(self, progress: Progress) -> None:
        self.bar.stop()


class Cell:
    """A line below a notebook's cell, which is written anew; ipywidgets are not needed."""

    def begin(self, progress: Progress) -> None:
        self.handle: Any = None
        self.show(progress)

    def show(self, progress: Progress) -> None:
        if self.handle is None or progress.now - self.shown >= CELL_EVERY:
            self._write(progress)

    def end(self, progress: Progress) -> None:
        self._write(progress)

    def _write(self, progress: Progress) -> None:
        from IPython.display import display

        self.shown = progress.now
        full = CELL_BAR * progress.done // max(progress.total, 1)
        seen = {"text/plain": f"|{'#' * full:{CELL_BAR}}| {progress}"}
        if self.handle is None:
            self.handle = display(seen, raw=True, display_id=True)
        else:
            self.handle.update(seen, raw=True)


def _view() -> View:
    if is_quiet():
        return Nowhere()
    if sys.stderr.isatty():
        return Terminal()
    return Cell() if _in_notebook() else Log()


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; then it has imported IPython already."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


def _bar(progress: Progress) -> "Rich":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    rate = TextColumn("{task.fields[rate]:.3g} " + progress.unit + "/s")
    name = TextColumn(progress.name)
    columns = (name, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    bar = Rich(*columns, console=Console(stderr=True))
    bar.add_task(progress.name, total=progress.total, completed=progress.done, rate=0.0)
    return bar
