"""What Snakemake does not miss: files that were deleted, of which something is there that was made.

Snakemake makes a missing file only for a job that has to run. If what was made of it is there, as a
table whose stores were deleted, nothing has to. So a *mark* is among the inputs of every rule: a
file that is new where something is amiss, whereupon the job runs, and what it needs is made.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from puriflow.atomic import write_text

BEHIND_RESULTS = False
MARKS = Path(".snakemake/puriflow/missed")


def missed(files: Sequence[str], needed: Sequence[str], changed: Callable[[], bool]) -> list[str]:
    """The mark of a job, if there is reason for one, or once was.

    It has a line for each time: which file was there, and of what time. The last one counts until
    that file is made again, and is dropped if all is there again before. The earlier ones stay:
    Snakemake knows the mark as an input by then, and runs a job whose inputs are others.

    Args:
        files: that the job makes; its mark is called as the first.
        needed: that other jobs make for it.
        changed: whether it has to run for another reason, though all files are there.
    """
    mark, here = _mark(files), [Path(file) for file in files if os.path.isfile(file)]
    states = [f"{file} of {file.stat().st_mtime_ns}" for file in here]
    before = mark.read_text().splitlines() if os.path.isfile(mark) else []
    lines = [line for line in before if line not in states]
    if here and (not all(map(_is_whole, (*files, *needed))) or changed()):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_text(mark, "\n".join([*lines, states[0]]))
        return [str(mark)]
    if lines != before:
        write_text(mark, "\n".join(lines))
        os.utime(mark, (0, 0))
    return [str(mark)] if lines else []


def planned(files: Sequence[str]) -> list[str]:
    """The mark of a job as the plan left it, for the job itself if that reads the Snakefile again.

    What was amiss may be there again by then: the mark would go, which Snakemake keeps as an input.
    """
    mark = _mark(files)
    return [str(mark)] if mark.is_file() and mark.read_text() else []


def _mark(files: Sequence[str]) -> Path:
    return MARKS / files[0]


def _is_whole(path: str) -> bool:
    """Whether a file is there; of a store, its manifest with its Zarr group."""
    if not os.path.exists(path):
        return False
    folder, name = os.path.split(path)
    return name != "manifest.json" or any(
        one.endswith(".zarr") for one in os.listdir(folder or ".")
    )
