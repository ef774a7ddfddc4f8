"""The paper beside our results, in words: results/summary.md, and the pages of the report.

All numbers come from the CSVs of tables, of times and of claims; nothing is computed here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puriflow.claims import COLUMNS as CLAIMS
from puriflow.claims import NOT_MEASURED, VERDICTS
from puriflow.errors import Problem
from puriflow.pages import Block, Grid, Heading, as_html, as_markdown, escaped
from puriflow.results import TABLE, read_csv
from puriflow.tables import Table, load_table
from puriflow.timing import COLUMNS as TIMES
from puriflow.timing import Timing, load_timing

if TYPE_CHECKING:
    import pandas as pd

READING = (
    "Accuracies in percent with 95 % Wilson intervals. The paper's numbers are of its own images, "
    "networks and attacks; the notes say what served here in their place."
)
RULE = (
    "A claim of the paper is judged by comparing two rows image by image. It holds if the 95 % "
    "interval of the difference lies on the side that the paper asserts, does not hold if it lies "
    "on the other side, and is not decidable otherwise. Where every answer is right or wrong, the "
    "interval is that of the exact McNemar test, given how many images differ; for means over "
    "draws and for cross-entropy it is Student's. Each claim is judged by itself: of many "
    "comparisons without a true difference, one in twenty would seem to have one."
)
COSTS = {"macs_g": "GMACs", "params_m": "M parameters"}
Source = tuple[str, Table | Timing]  # of a file: its name without ending, and what it says
Line = dict[str, Any]  # of a CSV


def load_sources(tables: Iterable[Path], timings: Iterable[Path]) -> list[Source]:
    """Read the files of tables and of times, in the order of the paper.

    Raises:
        Problem: one is missing, or says something that is not known; or there is none.
    """
    found: list[Source] = [(file.stem, load_table(file)) for file in tables]
    found += [(file.stem, load_timing(file)) for file in timings]
    if not found:
        raise Problem("nothing to summarise: name files of tables, or of times by --timing")
    return sorted(found, key=lambda source: _order(source[0]))


def _order(name: str) -> list[tuple[int, str]]:
    """A key by which table10 comes after table9-top."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def read_claims(results: Path, name: str) -> "pd.DataFrame":
    """The verdicts on a table's claims."""
    return read_csv(results / "claims" / f"{name}.csv", CLAIMS)


def text(value: object) -> str:
    """A cell as text; nothing for none."""
    return value if isinstance(value, str) else ""


def number(value: float, digits: int = 2) -> str:
    """A number as text; nothing for none."""
    return "" if value != value else f"{value:.{digits}f}"


def seconds(value: float) -> str:
    """Seconds to three digits; nothing for none."""
    return "" if value != value else f"{value:.3g}"


def interval(value: float, low: float, high: float, say: Callable[[float], str] = number) -> str:
    """A number with its interval, where it has one."""
    return say(value) if low != low else f"{say(value)} ({say(low)} to {say(high)})"


def table_grid(rows: "pd.DataFrame") -> Grid:
    """A table's accuracies and costs beside the paper's."""
    costs = [column for column in COSTS if column in rows]
    columns = ["method", "type", "n", "standard", "paper", "robust", "paper"]
    columns += [name for column in costs for name in (COSTS[column], "paper")]
    lines = []
    for row in rows.to_dict("records"):
        line = [text(row["method"]), text(row["type"]), number(row["n"], 0)]
        for column in ("standard", "robust"):
            line.append(interval(row[column], row[f"{column}_low"], row[f"{column}_high"]))
            line.append(number(row[f"paper_{column}"]))
        for column in costs:
            line += [number(row[column]), number(row[f"paper_{column}"], 1)]
        lines.append((*line, text(row["note"])))
    return Grid((*columns, "note"), tuple(lines))


def timing_grid(rows: "pd.DataFrame") -> Grid:
    """Times beside the paper's: median and quartiles, in seconds an image."""
    columns = ("method", "part", "served by", "seconds (quartiles)", "paper", "note")
    lines = []
    for row in rows.to_dict("records"):
        names = (text(row["method"]), text(row["part"]), text(row["served_by"]))
        ours = interval(row["seconds"], row["q1"], row["q3"], seconds)
        lines.append((*names, ours, seconds(row["paper_seconds"]), text(row["note"])))
    return Grid(columns, tuple(lines))


def claims_grid(rows: "pd.DataFrame") -> Grid:
    """Claims with their verdicts."""
    columns = ("the paper says", "that is", "its numbers", "our difference", "images", "verdict")
    lines = []
    for row in rows.to_dict("records"):
        paper = [number(row[f"paper_{side}"]) for side in ("higher", "lower")]
        line = (
            f"\u201c{row['quote']}\u201d ({row['section']})",
            compared(row),
            " against ".join(filter(None, paper)),
            interval(row["difference"], row["low"], row["high"]),
            "" if row["wins"] != row["wins"] else f"{row['wins']:.0f} for, {row['losses']:.0f} not",
            judgement(row),
        )
        lines.append(line)
    return Grid(columns, tuple(lines))


def compared(row: Line) -> str:
    """What a claim compares."""
    return f"{row['column'].replace('_', '-')}: {row['higher']} above {row['lower']}"


def judgement(row: Line) -> str:
    """A verdict with what it rests on."""
    if row["verdict"] == NOT_MEASURED:
        return f"{NOT_MEASURED}: {row['note']}"
    return f"{row['verdict']} at n = {row['n']:.0f}"


def section(name: str, what: Table | Timing, results: Path) -> list[Block]:
    """The blocks of one table, or of one file of times."""
    rows = read_csv(results / f"{name}.csv", TIMES if isinstance(what, Timing) else TABLE)
    heading = Heading(f"{what.source}: {what.title}", 2)
    if isinstance(what, Timing):
        devices = ", ".join(rows["device"].dropna().unique()) or "nothing"
        said = (
            f"Medians of {what.repeats} repeats after {what.warmup} of warm-up, an image at a "
            f"time, on {devices}. The paper's: {what.paper_device}."
        )
        return [heading, said, timing_grid(rows)]
    claims = read_claims(results, name)
    return [heading, table_grid(rows), *([claims_grid(claims)] if len(claims) else [])]


def document(sources: list[Source], results: Path) -> list[Block]:
    """All tables and times, after the number of verdicts."""
    tables = [name for name, what in sources if isinstance(what, Table)]
    counted = Counter(v for name in tables for v in read_claims(results, name)["verdict"])
    blocks: list[Block] = [Heading("The paper's results and ours", 1), READING]
    if counted:
        said = [f"{verdict} {counted[verdict]}" for verdict in (*VERDICTS.values(), NOT_MEASURED)]
        blocks += [RULE, f"Verdicts on {counted.total()} comparisons: {', '.join(said)}."]
    return blocks + [block for source in sources for block in section(*source, results)]


def caption(sources: list[Source], results: Path) -> str:
    """Titles, the paper's claims and our verdicts as reStructuredText."""
    lines = []
    for name, what in sources:
        lines += [escaped(f"{what.source}: {what.title}."), ""]
        if isinstance(what, Table):
            for row in read_claims(results, name).to_dict("records"):
                said = f"The paper ({row['section']}): \u201c{row['quote']}\u201d."
                lines.append(f"- {escaped(f'{said} Ours, {compared(row)}: {judgement(row)}.')}")
    return "\n".join(lines) + "\n"


def write_summary(sources: list[Source], results: Path, outs: Iterable[Path]) -> None:
    """Write tables and times as each of `outs`: .md, .html, or .rst for the caption.

    Raises:
        Problem: another ending, or a CSV that is missing.
    """
    writers = {
        ".md": lambda: as_markdown(document(sources, results)),
        ".html": lambda: as_html(document(sources, results)),
        ".rst": lambda: caption(sources, results),
    }
    for out in outs:
        if out.suffix not in writers:
            raise Problem(f"summary {out}: must end in {', '.join(writers)}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(writers[out.suffix]())
