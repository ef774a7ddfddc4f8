"""Progress of a long stage: done, rate and time left; a bar on a terminal, plain lines in a log."""

import sys
import time
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from rich.progress import Progress as Rich

BEHIND_RESULTS = False


def startup() -> float:
    """Seconds since this process began: what importing and building took, before a stage runs."""
    return time.time() - psutil.Process().create_time()


class Progress:
    """Counts what is done and shows it: a bar on a terminal, else one line every ten seconds.

    Of `total` units (images, steps), `done` were done before, in an earlier run.
    """

    def __init__(self, name: str, *, total: int, unit: str = "images", done: int = 0):
        self.name, self.total, self.unit = name, total, unit
        self.first = self.done = done
        self.bar = _bar(name, total, unit, done) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self.started = self.said = time.monotonic()
        if self.bar:
            self.bar.start()
        elif self.done:
            print(f"{self.name}: {self.done}/{self.total} {self.unit} were done before", flush=True)
        return self

    def advance(self, count: int) -> None:
        """Say that `count` more are done."""
        self.done += count
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=self.done, rate=self._rate(now))
        elif now - self.said >= 10 or self.done == self.total:
            self.said = now
            rate = self._rate(now)
            left = (self.total - self.done) / rate if rate else 0
            print(
                f"{self.name}: {self.done}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, "
                f"{int(left // 60)}:{int(left % 60):02d} left",
                flush=True,
            )

    def _rate(self, now: float) -> float:
        return (self.done - self.first) / max(now - self.started, 1e-9)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


def _bar(name: str, total: int, unit: str, done: int) -> "Rich":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich

    rate = TextColumn("{task.fields[rate]:.3g} " + unit + "/s")
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    bar = Rich(*columns, console=Console(stderr=True))
    bar.add_task(name, total=total, completed=done, rate=0.0)
    return bar
