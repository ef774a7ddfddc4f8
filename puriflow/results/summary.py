"""The paper beside our results, in words: results/summary.md, and the pages of the report.

All numbers come from the CSVs of tables, times, figures and claims; nothing is computed here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from puriflow.config import NONE
from puriflow.errors import UserError, unknown
from puriflow.results.claims import COLUMNS as CLAIMS
from puriflow.results.claims import NOT_MEASURED, VERDICTS
from puriflow.results.csvs import TABLE, read_csv
from puriflow.results.figures.base import Figure, load_figure
from puriflow.results.pages import Block, Grid, Heading, as_html, as_markdown, escaped
from puriflow.results.table import Table, load_table
from puriflow.results.timing import COLUMNS as TIMES
from puriflow.results.timing import Timing, load_timing

if TYPE_CHECKING:
    import pandas as pd

READING = (
    "Accuracies in percent with 95 % Wilson intervals. The paper's numbers are of its own images, "
    "networks and attacks; the notes say what served here in their place."
)
RULE = (
    "A claim of the paper is judged by comparing two rows, lines or times image by image (or "
    "repeat by repeat). A comparison holds if the 95 % interval of the difference lies on the side "
    "that the paper asserts, does not hold if it lies on the other side, and is not decidable "
    "otherwise. A claim holds if all of its comparisons that were measured do, and does not hold "
    "if one does not. Where every answer is right or wrong, the interval is that of the exact "
    "McNemar test, given how many images differ; for means over draws it is Student's, for "
    "cross-entropies, errors, distances and times that of Wilcoxon's signed-rank test. Each is "
    "judged by itself: of many comparisons without a true difference, one in twenty would seem to "
    "have one."
)
COSTS = {"macs_g": "GMACs", "params_m": "M parameters"}
KINDS = {"tables": load_table, "timings": load_timing, "figures": load_figure}  # by folder
What = Table | Timing | Figure
Source = tuple[str, What]  # of a file: its name without ending, and what it says
Line = dict[str, Any]  # of a CSV


def load_sources(files: Iterable[Path]) -> list[Source]:
    """Read files of tables, timings and figures; tables and times first, by number.

    Raises:
        UserError: one is missing, says something that is not known, or lies in no such folder.
    """
    found: list[Source] = []
    for file in files:
        if file.parent.name not in KINDS:
            raise unknown(f"kind of result (folder of {file})", file.parent.name, KINDS)
        found.append((file.stem, KINDS[file.parent.name](file)))
    return sorted(found, key=lambda found: (isinstance(found[1], Figure), _order(found[0])))


def _order(name: str) -> list[tuple[int, str]]:
    """A key by which table10 comes after table9-top."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def read_claims(results: Path, name: str) -> "pd.DataFrame":
    """The verdicts on the claims about a table, a figure or times."""
    return read_csv(results / "claims" / f"{name}.csv", CLAIMS)


def text(value: object) -> str:
    """A cell as text; nothing for none."""
    return value if isinstance(value, str) else ""


def number(value: float, digits: int = 2) -> str:
    """A number as text; nothing for none."""
    return "" if value != value else f"{value:.{digits}f}"


def short(value: float) -> str:
    """A number to four digits; nothing for none."""
    return "" if value != value else f"{value:.4g}"


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
    """Claims with their verdicts: a line for each claim, and below it one for each comparison."""
    columns = ("the paper says", "its numbers", "our difference", "images", "verdict")
    lines = []
    for claim in claims_of(rows):
        lines.append((claim.said, "", "", "", claim.verdict))
        for row in claim.lines:
            paper = [short(row[f"paper_{side}"]) for side in ("higher", "lower")]
            ours = interval(row["difference"], row["low"], row["high"], short)
            if row["paper_factor"] == row["paper_factor"]:
                paper.append(f"{row['paper_factor']:.0f} times")
                ours = f"{ours}, {row['ours_factor']:.0f} times"
            lines.append((compared(row), ", ".join(filter(None, paper)), ours, *seen(row)))
    return Grid(columns, tuple(lines))


class Judged(NamedTuple):
    """A claim of a CSV: what it says, the verdict with its count, and its comparisons."""

    said: str
    verdict: str
    lines: list[Line]


def claims_of(rows: "pd.DataFrame") -> list[Judged]:
    """The claims of a CSV, in its order."""
    found = []
    for (section, quote), own in rows.groupby(["section", "quote"], sort=False):
        verdicts = Counter(own["verdict"])
        counted = [f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v]]
        said = f"\u201c{quote}\u201d ({section})"
        verdict = f"{own['claim_verdict'].iloc[0]} ({', '.join(counted)})"
        found.append(Judged(said, verdict, own.to_dict("records")))
    return found


def compared(row: Line) -> str:
    """What a comparison compares."""
    what = row["column"].replace("_", "-")
    at = f" in {layer}" if (layer := text(row["layer"])) else ""
    return f"{what}{at}: {row['higher']} above {row['lower']}"


def seen(row: Line) -> tuple[str, str]:
    """How many images speak for a comparison, and the verdict with what it rests on."""
    if row["verdict"] == NOT_MEASURED:
        return "", f"{NOT_MEASURED}: {row['note']}"
    if row["n"] != row["n"]:  # counted
        return "", row["verdict"]
    speaking = f"{row['wins']:.0f} for, {row['losses']:.0f} not"
    return speaking, f"{row['verdict']} at n = {row['n']:.0f}"


def served_by(rows: "pd.DataFrame") -> str:
    """What served the roles of a figure, from its CSV."""
    kinds = ("dataset", "classifier", "features", "attack", "restorer", "purifier")
    named = {kind: sorted(set(rows[kind].dropna()) - {NONE}) for kind in kinds if kind in rows}
    said = (f"{kind} {', '.join(names)}" for kind, names in named.items() if names)
    notes = dict.fromkeys(rows["note"].dropna())
    return ". ".join(["Served by " + "; ".join(said), *notes]) + "."


def columns_of(what: What) -> Iterable[str]:
    """The columns that a result's CSV must have."""
    if isinstance(what, Figure):
        return ("line", "note")
    return TIMES if isinstance(what, Timing) else TABLE


def section(name: str, what: What, results: Path) -> list[Block]:
    """The blocks of one table, of one file of times, or of one figure."""
    rows = read_csv(results / f"{name}.csv", columns_of(what))
    blocks: list[Block] = [Heading(f"{what.source}: {what.title}", 2)]
    if isinstance(what, Timing):
        devices = ", ".join(rows["device"].dropna().unique()) or "nothing"
        said = (
            f"Medians of {what.repeats} repeats after {what.warmup} of warm-up, an image at a "
            f"time, on {devices}. The paper's: {what.paper_device}."
        )
        blocks += [said, timing_grid(rows)]
    elif isinstance(what, Figure):
        blocks += [f"The paper: {what.claim}", f"Here: {what.how} {served_by(rows)}"]
    else:
        blocks.append(table_grid(rows))
    claims = read_claims(results, name)
    return [*blocks, *([claims_grid(claims)] if len(claims) else [])]


def verdicts_grid(sources: list[Source], rows: list["pd.DataFrame"]) -> Grid:
    """All claims, a line each."""
    lines = [
        (what.source, claim.said, claim.verdict)
        for (_, what), own in zip(sources, rows, strict=True)
        for claim in claims_of(own)
    ]
    return Grid(("of", "the paper says", "here"), tuple(lines))


def document(sources: list[Source], results: Path) -> list[Block]:
    """All results, after the number of verdicts."""
    rows = [read_claims(results, name) for name, _ in sources]
    claims = Counter(claim.lines[0]["claim_verdict"] for own in rows for claim in claims_of(own))
    comparisons = Counter(verdict for own in rows for verdict in own["verdict"])
    blocks: list[Block] = [Heading("The paper's results and ours", 1), READING]
    if claims:
        blocks.append(RULE)
    for what, counted in (("claims", claims), ("comparisons", comparisons)):
        said = ", ".join(f"{verdict} {counted[verdict]}" for verdict in VERDICTS)
        blocks += [f"Verdicts on {counted.total()} {what}: {said}."] if counted else []
    if claims and len(sources) > 1:
        blocks.append(verdicts_grid(sources, rows))
    return blocks + [block for source in sources for block in section(*source, results)]


def caption(sources: list[Source], results: Path) -> str:
    """Titles, the paper's claims and our verdicts as reStructuredText."""
    lines = []
    for name, what in sources:
        lines += [f"**{escaped(f'{what.source}: {what.title}')}**", ""]
        if isinstance(what, Figure):
            said = f"{what.how} {served_by(read_csv(results / f'{name}.csv', columns_of(what)))}"
            lines += [f"**The paper:** {escaped(what.claim)}", "", f"**Here:** {escaped(said)}", ""]
        for claim in claims_of(read_claims(results, name)):
            lines += [f"- The paper: {escaped(claim.said)}. Ours: {escaped(claim.verdict)}.", ""]
            lines += [f"  - {escaped(f'{compared(r)}: {seen(r)[1]}')}" for r in claim.lines]
            lines.append("")
    return "\n".join(lines) + "\n"


def write_summary(sources: list[Source], results: Path, outs: Iterable[Path]) -> None:
    """Write results as each of `outs`: .md, .html, or .rst for the caption.

    Raises:
        UserError: another ending, or a CSV that is missing.
    """
    writers = {
        ".md": lambda: as_markdown(document(sources, results)),
        ".html": lambda: as_html(document(sources, results)),
        ".rst": lambda: caption(sources, results),
    }
    for out in outs:
        if out.suffix not in writers:
            raise UserError(f"summary {out}: must end in {', '.join(writers)}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(writers[out.suffix]())
