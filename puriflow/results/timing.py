"""Wall times as data (paper, Table 9): rows are chains whose parts are timed image by image.

config/timings/NAME.yaml says which chains. All of a file are timed in one process after a warm-up,
each row once in every repeat, so that a machine that slows down slows all of them and ratios hold.
The times that lie beside the stores are not used: their jobs ran at different times, side by side.
"""

import platform
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from puriflow.chain import Chain, shard_names
from puriflow.config import NONE, Config
from puriflow.results.table import Roles, load, serving
from puriflow.store import open_stage

if TYPE_CHECKING:
    import torch

# What is timed, in the order of the chain, and the role that does it.
PARTS = {"restore": "restorer", "purify": "purifier", "classify": "classifier"}
TOTAL = "total"
QUARTILES = ("q1", "seconds", "q3")  # the median between its quartiles
COLUMNS = (
    "method",
    "part",
    "served_by",
    "seconds",
    "q1",
    "q3",
    "repeats",
    "device",
    "paper_seconds",
    "paper_device",
    "note",
)
# Of the CSV of all repeats, by which claims are judged; a line is "METHOD, PART".
MEASURES = ("line", "layer", "index", "metric", "value", "paper", "note")
Step = Callable[["torch.Tensor", int], "torch.Tensor"]  # of an image (1, 3, H, W) and its index
Clock = Callable[[], float]  # in seconds


class PaperTimes(BaseModel):
    """The paper's seconds an image; None where it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    restore: float | None = Field(None, ge=0)
    purify: float | None = Field(None, ge=0)
    classify: float | None = Field(None, ge=0)
    total: float | None = Field(None, ge=0)


class Row(BaseModel):
    """One chain: its roles, where they differ from the file's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    restorer: str | None = None
    purifier: str | None = None
    classifier: str | None = None
    paper: PaperTimes = PaperTimes()
    note: str = ""


class Timing(BaseModel):
    """A file of times: the roles that its rows share, how often they are timed, and the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    dataset: str
    restorer: str = NONE
    purifier: str = NONE
    classifier: str = NONE
    repeats: int = Field(ge=2, description="times that are kept of every part, an image each")
    warmup: int = Field(1, ge=0, description="times before these, which are thrown away")
    paper_device: str
    rows: tuple[Row, ...] = Field(min_length=1)

    def chain(self, row: Row) -> dict[str, str]:
        """What is timed of a row, and the name of the role that does it; without `none`."""
        names = {part: getattr(row, kind) or getattr(self, kind) for part, kind in PARTS.items()}
        return {part: name for part, name in names.items() if name != NONE}


def load_timing(path: str | Path) -> Timing:
    """Read and check a file of times.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    return load(Timing, path, "timing")


def served(timing: Timing, config: Config) -> Roles:
    """What a file of times says of its roles: all that it needs of a configuration.

    Raises:
        UserError: a row names a role that the configuration does not know.
    """
    roles: Roles = {f"dataset {timing.dataset}": serving(config, "datasets", timing.dataset)}
    for row in timing.rows:
        for part, name in timing.chain(row).items():
            family = f"{PARTS[part]}s"
            role = serving(config, family, name)
            spec = None if role["unavailable"] else config.spec(family, name)
            roles[f"{PARTS[part]} {name}"] = role | {"spec": spec}
    return roles


def unavailable(timing: Timing, row: Row, roles: Roles) -> str | None:
    """Why this track cannot serve a row; None if it can."""
    named = [("dataset", timing.dataset)]
    named += [(PARTS[part], name) for part, name in timing.chain(row).items()]
    for kind, name in named:
        if reason := roles[f"{kind} {name}"]["unavailable"]:
            return f"{kind} {name}: {reason}"
    return None


def images_folder(timing: Timing, roles: Roles) -> str:
    """Folder, below the results, of the images that are timed: the data set's first shard."""
    shards = roles[f"dataset {timing.dataset}"]["shards"]
    return Chain(timing.dataset).folder("images", shard_names(shards)[0])


def steps(timing: Timing, row: Row, build: Callable[[str, str], Any]) -> dict[str, Step]:
    """What is timed of a row, by part. `build` makes the module of a kind and a name."""
    from puriflow.randomness import ImageNoise

    def step(part: str, name: str) -> Step:
        module = build(PARTS[part], name)
        if part == "purify":
            return lambda image, index: module(image, ImageNoise(0, "purify", [index]))
        return lambda image, index: module(image)

    return {part: step(part, name) for part, name in timing.chain(row).items()}


def sample(
    rows: list[dict[str, Step]],
    images: list["torch.Tensor"],
    repeats: int,
    warmup: int,
    clock: Clock,
) -> list[dict[str, np.ndarray]]:
    """Time every part of every row: part to seconds (repeats,), and their sum as `total`.

    Args:
        rows: parts in the order of their chain; each is given what the one before it made.
        images: (1, 3, H, W) in [0, 1]; each repeat takes the next one.
        repeats: that are kept.
        warmup: repeats before these.
        clock: must wait until the device has finished.
    """
    taken = [{part: np.zeros(warmup + repeats) for part in row} for row in rows]
    for repeat in range(warmup + repeats):
        index = repeat % len(images)
        for row, seconds in zip(rows, taken, strict=True):
            x = images[index]
            for part, step in row.items():
                begun = clock()
                x = step(x, index)
                seconds[part][repeat] = clock() - begun
    for seconds in taken:
        seconds[TOTAL] = sum(seconds.values())
    return [{part: s[warmup:] for part, s in seconds.items()} for seconds in taken]


def described(
    timing: Timing, row: Row, roles: Roles, times: dict[str, np.ndarray] | None, device: str
) -> Iterator[dict[str, Any]]:
    """Lines of the CSV: one for each part of a row; `times` is None for one that is not served."""
    chain, paper = timing.chain(row), row.paper.model_dump()
    for part in [*chain, TOTAL]:
        named = [roles[f"{PARTS[p]} {name}"] for p, name in chain.items() if part in (p, TOTAL)]
        notes = [unavailable(timing, row, roles), row.note, *(role["note"] for role in named)]
        out: dict[str, Any] = {
            "method": row.method,
            "part": part,
            "served_by": " and ".join(role["served_by"] for role in named),
            "paper_seconds": paper[part],
            "paper_device": None if paper[part] is None else timing.paper_device,
            "note": "; ".join(filter(None, dict.fromkeys(notes))),
        }
        if times is not None:
            quartiles = np.quantile(times[part], (0.25, 0.5, 0.75))
            out |= dict(zip(QUARTILES, (float(f"{q:.4g}") for q in quartiles), strict=True))
            out |= {"repeats": timing.repeats, "device": device}
        yield out


def repeats_of(
    timing: Timing, row: Row, roles: Roles, times: dict[str, np.ndarray] | None
) -> Iterator[dict[str, Any]]:
    """Lines of the CSV of all repeats; of a row that is not served, one for each part."""
    paper = row.paper.model_dump()
    for part in [*timing.chain(row), TOTAL]:
        line = {"line": f"{row.method}, {part}", "metric": "seconds", "paper": paper[part]}
        if times is None:
            yield line | {"note": unavailable(timing, row, roles)}
        else:
            for repeat, seconds in enumerate(times[part]):
                yield line | {"index": repeat, "value": float(f"{seconds:.4g}")}


def device_name(device: "torch.device") -> str:
    """The device in words: the GPU's name, or the processor's with the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def waiting_clock(device: "torch.device") -> Clock:
    """A clock that first waits for all that the device was given to do."""
    import torch

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def write_times(
    timing: Timing, roles: Roles, results: Path, out: Path, measures: Path, device: "torch.device"
) -> None:
    """Time a file's chains on `device`, and write its CSV and that of all repeats."""
    import pandas as pd
    import torch

    from puriflow import registry

    @cache
    def build(kind: str, name: str) -> Any:  # rows share parts
        return registry.build(f"{kind}s", name, roles[f"{kind} {name}"]["spec"]).to(device)

    rows = [row for row in timing.rows if unavailable(timing, row, roles) is None]
    times: dict[int, dict[str, np.ndarray]] = {}
    if rows:
        stage = open_stage(results / images_folder(timing, roles))
        count = min(stage.count, timing.warmup + timing.repeats)
        images = [torch.from_numpy(stage.read("images", i, i + 1)).to(device) for i in range(count)]
        with torch.no_grad():
            chains = [steps(timing, row, build) for row in rows]
            taken = sample(chains, images, timing.repeats, timing.warmup, waiting_clock(device))
        times = {timing.rows.index(row): found for row, found in zip(rows, taken, strict=True)}
    name = device_name(device)
    lines, every = [], []
    for i, row in enumerate(timing.rows):
        lines += described(timing, row, roles, times.get(i), name)
        every += repeats_of(timing, row, roles, times.get(i))
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).astype({"repeats": "Int64"})
    frame.to_csv(out, index=False)
    pd.DataFrame(every, columns=list(MEASURES)).astype({"index": "Int64"}).to_csv(
        measures, index=False
    )
