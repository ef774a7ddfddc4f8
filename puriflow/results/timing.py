"""Wall times (paper, Table 9): rows are chains whose parts are timed image by image.

config/timings/NAME.yaml says which chains. All of a file are timed in one process after a warm-up,
each row once in every repeat, so that a machine that slows down slows all of them and ratios hold.
The times that lie beside the stores are not used: their jobs ran at different times, side by side.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.provenance import processor
from puriflow.results.base import (
    EVIDENCE,
    Device,
    Files,
    Judged,
    Model,
    joined,
    notes,
    served_by,
    shards_of,
)
from puriflow.results.columns import column, write_csv
from puriflow.results.documents import Block, Grid, interval, significant, text
from puriflow.results.measures import Stores

if TYPE_CHECKING:
    import pandas as pd
    import torch

# What is timed, in the order of the chain, and the role that does it.
PARTS = {"restore": "restorer", "purify": "purifier", "classify": "classifier"}
TOTAL = "total"
QUARTILES = ("q1", "seconds", "q3")  # the median between its quartiles
COLUMNS = (
    *("method", "part", "served_by", "seconds", "q1", "q3", "repeats", "device"),
    *("paper_seconds", "paper_device", "note"),
)
Step = Callable[["torch.Tensor", int], "torch.Tensor"]  # of an image (1, 3, H, W) and its index
Clock = Callable[[], float]  # in seconds


class PaperTimes(Model):
    """The paper's seconds an image; None where it has none."""

    restore: float | None = Field(None, ge=0)
    purify: float | None = Field(None, ge=0)
    classify: float | None = Field(None, ge=0)
    total: float | None = Field(None, ge=0)


class Row(Model):
    """One chain: its roles, where they differ from the file's."""

    method: str
    restorer: str | None = None
    purifier: str | None = None
    classifier: str | None = None
    paper: PaperTimes = PaperTimes()
    note: str = ""


class Timing(Judged):
    """A file of times: the roles that its rows share, how often they are timed, and the rows."""

    folder: ClassVar[str] = "timings"
    times: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = (*EVIDENCE[:-1], "paper", EVIDENCE[-1])

    dataset: str
    restorer: str = NONE
    purifier: str = NONE
    classifier: str = NONE
    repeats: int = Field(
        ge=2, le=10_000, description="times that are kept of every part, an image each"
    )
    warmup: int = Field(1, ge=0, le=10_000, description="times before these, which are thrown away")
    paper_device: str
    rows: tuple[Row, ...] = Field(min_length=1)

    @property
    def computes(self) -> bool:
        return True

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {"csv": f"{name}.csv", "measures": f"measures/{name}.csv"}

    def items(self) -> tuple[Row, ...]:
        return self.rows

    def chain(self, row: Row) -> dict[str, str]:
        """What is timed of a row, and the name of the role that does it; without `none`."""
        names = {part: getattr(row, role) or getattr(self, role) for part, role in PARTS.items()}
        return {part: name for part, name in names.items() if name != NONE}

    def parts_of(self, row: Row) -> list[tuple[str, str]]:
        """All that are timed."""
        return [(PARTS[part], name) for part, name in self.chain(row).items()]

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        yield "dataset", self.dataset
        yield from self.parts_of(row)

    def reads(self, track: Config, row: Row) -> list[str]:
        """The images that are timed: the data set's first shard."""
        return [Chain(self.dataset).folder("images", shards_of(track, self.dataset)[0])]

    # Its files

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        assert device is not None
        seconds = self.time(track, results, device)
        name = device_name(device)
        lines = [line for row in self.rows for line in self.lines(track, row, seconds, name)]
        write_csv(lines, COLUMNS, files["csv"])
        repeats = [line for row in self.rows for line in self.repeated(track, row, seconds)]
        write_csv(repeats, self.measures, files["measures"])

    def time(
        self, track: Config, results: Path, device: "torch.device"
    ) -> dict[Row, dict[str, np.ndarray]]:
        """Seconds (repeats,) of every part of the rows that are served, and their sum, `total`."""
        import torch

        rows = self.served(track)
        if not rows:
            return {}
        (folder,) = self.stores(track)
        store = Stores(track, results).open(folder)
        count = min(store.count, self.warmup + self.repeats)
        images = [torch.from_numpy(store.read("images", i, i + 1)).to(device) for i in range(count)]
        parts = self.parts(track)  # each is built once, and shared by rows
        modules = {(part.role, part.name): part.build().to(device) for part in parts}
        with torch.no_grad():
            steps = [self.steps(row, modules) for row in rows]
            seconds = sample(steps, images, self.repeats, self.warmup, waiting_clock(device))
        return dict(zip(rows, seconds, strict=True))

    def steps(self, row: Row, modules: dict[tuple[str, str], Any]) -> dict[str, Step]:
        """What is timed of a row, by part; `modules` has what does it by role and name."""
        from puriflow.randomness import PURIFY, ImageNoise

        def step(part: str, name: str) -> Step:
            module = modules[PARTS[part], name]
            if part == "purify":
                return lambda image, index: module(image, ImageNoise(0, PURIFY, [index]))
            return lambda image, index: module(image)

        return {part: step(part, name) for part, name in self.chain(row).items()}

    def lines(
        self, track: Config, row: Row, seconds: dict[Row, dict[str, np.ndarray]], device: str
    ) -> Iterator[dict[str, Any]]:
        """The lines of a row in the CSV: one for each part; without times if it is not served."""
        chain, paper = self.chain(row), row.paper.model_dump()
        for part in [*chain, TOTAL]:
            roles = [(PARTS[p], name) for p, name in chain.items() if part in (p, TOTAL)]
            reason = self.unavailable(track, row)
            line: dict[str, Any] = {
                "method": row.method,
                "part": part,
                "served_by": " and ".join(served_by(track, *role) for role in roles),
                "paper_seconds": paper[part],
                "paper_device": None if paper[part] is None else self.paper_device,
                "note": joined(reason, row.note, *notes(track, roles)),
            }
            if row in seconds:
                quartiles = np.quantile(seconds[row][part], (0.25, 0.5, 0.75))
                line |= dict(zip(QUARTILES, (float(f"{q:.4g}") for q in quartiles), strict=True))
                line |= {"repeats": self.repeats, "device": device}
            yield line

    def repeated(
        self, track: Config, row: Row, seconds: dict[Row, dict[str, np.ndarray]]
    ) -> Iterator[dict[str, Any]]:
        """A row in the CSV of all repeats, of which a line is called "METHOD, PART"."""
        paper = row.paper.model_dump()
        for part in [*self.chain(row), TOTAL]:
            line = {"line": f"{row.method}, {part}", "metric": "seconds", "paper": paper[part]}
            if row not in seconds:
                yield line | {"note": self.unavailable(track, row)}
                continue
            for repeat, value in enumerate(seconds[row][part]):
                yield line | {"index": repeat, "value": float(f"{value:.4g}")}

    def lines_of_claims(self) -> list[str]:
        """See `Judged`: "METHOD, PART"."""
        return [f"{row.method}, {part}" for row in self.rows for part in [*self.chain(row), TOTAL]]

    # What its page says

    def columns(self) -> tuple[str, ...]:
        return COLUMNS

    def page(self, rows: "pd.DataFrame") -> list[Block]:
        """See `Judged`: median and quartiles in seconds an image, beside the paper's."""
        devices = ", ".join(rows["device"].dropna().unique()) or "nothing"
        how = (
            f"Medians of {self.repeats} repeats after {self.warmup} of warm-up, an image at a "
            f"time, on {devices}. The paper's: {self.paper_device}."
        )
        heads = ("method", "part", "served_by")
        lines = []
        for row in rows.to_dict("records"):
            ours = interval(row["seconds"], row["q1"], row["q3"], _three)
            names = (text(row[head]) for head in heads)
            lines.append((*names, ours, _three(row["paper_seconds"]), text(row["note"])))
        words = (column(head).words for head in heads)
        return [how, Grid((*words, "seconds (quartiles)", "paper", "note"), tuple(lines))]


def _three(seconds: float) -> str:
    return significant(seconds, 3)


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
    times = [{part: np.zeros(warmup + repeats) for part in row} for row in rows]
    for repeat in range(warmup + repeats):
        index = repeat % len(images)
        for row, seconds in zip(rows, times, strict=True):
            x = images[index]
            for part, step in row.items():
                begun = clock()
                x = step(x, index)
                seconds[part][repeat] = clock() - begun
    for seconds in times:
        seconds[TOTAL] = sum(seconds.values(), np.zeros(warmup + repeats))
    return [{part: s[warmup:] for part, s in seconds.items()} for seconds in times]


def device_name(device: "torch.device") -> str:
    """The device in words: the GPU's name, or the processor's with the number of threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def waiting_clock(device: "torch.device") -> Clock:
    """A clock that first waits for all that the device was given to do."""
    import torch

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now
