"""What jobs run, how far they are, and what failed: from their logs and stores alone.

So it is the same whoever executes them: a rule's log and the record of its end (Snakemake's
benchmark) lie where all nodes see them. A job that was killed writes no more; so does one that
computes a long step, and which of both it is nobody says.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from puriflow.store import MANIFEST
from puriflow.store.work import BATCH

BEHIND_RESULTS = False
SILENT = 600  # seconds; the state of a long attack is kept every minute
END = 4096  # bytes of a log that are read from its end
BEGUN = re.compile(r"puriflow: (\w+) of (\d+) images on (.+)")  # see stages.base
PROGRESS = re.compile(r".+: (\d+)/(\d+) (\w+), ([0-9.e+-]+) \w+/s, (?:\d+:\d\d|\?) left")
BEFORE = re.compile(r".+: (\d+)/(\d+) (\w+) were done before")
# As an error of ours or of a command's begins, and as the last line of a traceback does.
FAILED = re.compile(
    r"puriflow: error: |Usage: "
    r"|([A-Za-z_]\w*\.)*[A-Za-z_]*(Error|Exception|Interrupt)\b(?! ignored)"
    r"|.*: command not found$|Segmentation fault|Aborted|Killed$"
)
TRACEBACK = "Traceback (most recent call last):"
State = Literal["done", "failed", "running", "silent"]


@dataclass(frozen=True)
class Running:
    """A job, as its log has it.

    Attributes:
        name: the path of its log, below the folder of logs and without the ending.
        where: host and device; empty if its log does not say.
        done: of `total` units, where its log or its store says it.
        rate: units a second; 0 if there is none yet.
        quiet: seconds since it last wrote anything.
        last: the last line of its log.
    """

    name: str
    state: State
    where: str
    done: int
    total: int
    unit: str
    rate: float
    quiet: float
    last: str

    @property
    def left(self) -> float | None:
        """Seconds that are left, as of its last line; None if that is not known."""
        return (self.total - self.done) / self.rate if self.rate and self.total else None


def jobs_of(logs: Path, results: Path) -> Iterator[Running]:
    """All jobs that have a log, in order of their names."""
    for log in sorted(logs.rglob("*.log")):
        yield _job(log, log.relative_to(logs).with_suffix(""), results)


def _job(log: Path, name: Path, results: Path) -> Running:
    text, store = _ends(log), results / name
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    work = store.with_name(f".{store.name}.work")
    kept = [BATCH.fullmatch(file.name) for file in work.glob("*/*.batch")]
    begun = next((m for line in lines if (m := BEGUN.fullmatch(line))), None)
    said = next((m for line in reversed(lines) if (m := PROGRESS.match(line))), None)
    before = next((m for line in reversed(lines) if (m := BEFORE.match(line))), None)
    found = said or before
    done = max(int(found[1]) if found else 0, sum(int(m[2]) - int(m[1]) for m in kept if m))
    total = int(found[2]) if found else int(begun[2]) if begun else 0
    written = max([_time(log), *(_time(file) for file in work.glob("*/*"))])
    quiet = max(0.0, time.time() - written)
    ended = max(_time(results / "benchmarks" / f"{name}.jsonl"), _time(store / MANIFEST))
    state: State = "silent" if quiet > SILENT else "running"
    if FAILED.match(last):
        state = "failed"
    elif (raised := _raised(text)) is not None:
        state, last = "failed", raised
    if ended >= _time(log):
        state = "done"
    where, rate = (begun[3] if begun else ""), (float(said[4]) if said else 0.0)
    unit = found[3] if found else "images"
    return Running(str(name), state, where, done, total, unit, rate, quiet, last)


def _raised(text: str) -> str | None:
    """What a traceback at the end of a log says, before the lines that an error itself adds.

    None if there is no traceback, or the job went on behind it.
    """
    lines = text.splitlines()
    if TRACEBACK not in lines:
        return None
    behind = lines[len(lines) - lines[::-1].index(TRACEBACK) :]
    if any(PROGRESS.match(line.strip()) for line in behind):
        return None
    return next((line for line in behind if FAILED.match(line)), None)


def _ends(log: Path) -> str:
    """A log's beginning, where it says its place, and its end."""
    try:
        with log.open("rb") as file:
            first = file.read(END)
            if (size := log.stat().st_size) > 2 * END:
                file.seek(size - END)
                first += b"\n"
            return (first + file.read(END)).decode(errors="replace")
    except OSError:  # it was begun anew meanwhile
        return ""


def _time(file: Path) -> float:
    """When a file was last written; 0 if it is not there."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
