"""What the benchmarks of `make bench` share: CPU seconds taken in turns, their ratios, and JSON.

A machine that does something else meanwhile is slower for a while, and a processor that is warm
clocks lower. So ways to do the same thing take turns (A B A B ...), each by its median, and only
ratios within one run are compared. They are of CPU seconds of this process with one thread, not of
a clock on the wall, as others may use the same cores.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

MEASURED = Path(__file__).parent / "measured"  # of one machine each, so git ignores them
PACKAGES = ("puriflow", "torch", "numpy", "zarr")  # whose versions are said in any case
Way = Callable[[], object]


class Row(NamedTuple):
    """One thing, done by us and by somebody else, or twice by us."""

    what: str
    ours: float
    theirs: float
    unit: str = "CPU s"

    @property
    def ratio(self) -> float:
        """How often theirs ours is: above 1, ours costs more."""
        return self.ours / self.theirs


def in_turns(
    ways: Mapping[str, Way], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """The median cost of each way, of as many rounds; before, each runs once and does not count.

    What a first call does besides (memory that is taken, files that are read, kernels that are
    chosen) is nobody's cost of the second.

    Args:
        ways: by name, what is to be measured.
        rounds: in each of which every way runs once, in order.
        clock: read before and after each; seconds.
    """
    for way in ways.values():
        way()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = clock()
            way()
            spent[name].append(clock() - begun)
    return {name: median(each) for name, each in spent.items()}


def of_children() -> float:
    """CPU seconds of all processes that this one has started and waited for: a clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak() -> float:
    """The most memory that this process had resident, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # a child's ru_maxrss begins at its parent's on Linux
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def answer_of(file: str, *arguments: object) -> Any:
    """What a script says as JSON in the last line, in a process of its own."""
    command = [sys.executable, file, *map(str, arguments)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def one_thread() -> None:
    """Compute on one thread, as every stage does."""
    import torch

    torch.set_num_threads(1)


def table(rows: Sequence[Row]) -> str:
    """Rows as text: what, ours, theirs, their ratio."""
    width = max(len(row.what) for row in rows)
    lines = [f"{'':{width}} {'ours':>12} {'theirs':>12} {'':7} {'ratio':>6}"]
    for what, ours, theirs, unit in rows:
        lines.append(f"{what:{width}} {ours:12,.5g} {theirs:12,.5g} {unit:7} {ours / theirs:6.2f}")
    return "\n".join(lines)


def report(file: str, rows: Sequence[Row], packages: Sequence[str] = (), **said: object) -> None:
    """Print the rows of a script, and write them beside the machine and versions as JSON.

    Args:
        file: of the script, which gives the JSON its name.
        rows: what was measured.
        packages: distributions that were measured beside ours.
        said: whatever else is of interest.
    """
    import torch

    from puriflow.provenance import machine

    name = Path(file).stem
    found = [{**row._asdict(), "ratio": row.ratio} for row in rows]
    made_by = {"machine": machine(torch.device("cpu")), "versions": versions(packages)}
    MEASURED.mkdir(exist_ok=True)
    content = {"name": name, "rows": found, **said, **made_by}
    (MEASURED / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{table(rows)}\n", flush=True)


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Versions of distributions, without those that are not installed."""
    found = {"python": sys.version.split()[0]}
    for package in (*PACKAGES, *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
