"""The paper beside our results, in words: results/summary.md, and the pages of the report.

All numbers come from the CSVs of tables, times, figures and claims; nothing is computed here but
Holm's correction of the verdicts, for which all of them are needed.
"""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from puriflow.atomic import write_text
from puriflow.metrics.paired import holm
from puriflow.results.base import Judged, make_folders
from puriflow.results.claims import (
    ALIKE,
    COLUMNS,
    FAILS,
    HOLDS,
    NOT_MEASURED,
    OPEN,
    VERDICTS,
    overall,
)
from puriflow.results.columns import column, read_csv
from puriflow.results.documents import (
    Block,
    Grid,
    Heading,
    Toned,
    as_html,
    as_markdown,
    escaped,
    interval,
    significant,
    text,
)
from puriflow.results.finding import find_judged, paper_results

if TYPE_CHECKING:
    import pandas as pd

READING = (
    "Accuracies in percent with 95 % Wilson intervals. The paper's numbers are of its own images, "
    "networks and attacks; the notes say what served here in their place."
)
RULE = (
    "A claim of the paper is judged by comparing two rows, lines or times image by image (or "
    "repeat by repeat). A comparison holds if the 95 % interval of the difference lies on the side "
    "that the paper asserts, and does not hold if it lies on the other side. Where zero is in it, "
    "and it is within a margin stated beforehand, there is no difference that matters; else it is "
    "not decidable. Where the paper says how many times as high, it is the interval of the ratio, "
    "and the sides are those of that factor. What was not run, or rests on an attack that "
    "helped the defence, is not measured. A claim is as good as its worst comparison that was "
    "measured: one that does not hold, one that is not decidable, one without a difference that "
    "matters. Where every answer is right or wrong, the test is McNemar's exact one; of means over "
    "draws it is Student's, of cross-entropies, errors, distances and times Wilcoxon's signed-rank "
    "test. Beside what is not decidable stands about how many images like these would decide it."
)
HOLM = (
    "Each comparison is judged by itself: of many without a true difference, one in twenty would "
    "seem to have one. With Holm's correction for {number} comparisons, {standing} of {decided} "
    "that are decided stand, with 95 % confidence in all at once; the others are not decidable."
)
TONES = {HOLDS: "good", FAILS: "bad", ALIKE: "alike", OPEN: "open", NOT_MEASURED: "none"}
COMPARED = ("about", "column", "layer", "higher", "lower", "paper_factor")  # what is compared
Row = Mapping[Hashable, Any]  # of a CSV


class Source(NamedTuple):
    """A result, the name of its file, and where its CSVs are."""

    name: str
    result: Judged
    results: Path

    @property
    def title(self) -> str:
        """The heading above it."""
        return f"{self.result.source}: {self.result.title}"

    def blocks(self) -> list[Block]:
        """What its page says of it, without claims."""
        rows = read_csv(self.results / f"{self.name}.csv", self.result.columns())
        return self.result.page(rows)

    def verdicts(self) -> "pd.DataFrame":
        """The verdicts on the claims about it."""
        return read_csv(self.results / "claims" / f"{self.name}.csv", COLUMNS)


class Verdict(NamedTuple):
    """A claim of a CSV: its quote, the verdict with its count, that by Holm, its comparisons."""

    quote: str
    words: Toned
    corrected: Toned
    rows: Sequence[Row]


def write_page(file: str | Path, name: str, results: Path) -> list[Path]:
    """Write the page of one result, and its caption in the report.

    Args:
        file: of the claims, beside the folders of results.
        name: of the result.
        results: where its CSVs are.

    Returns:
        results/pages/NAME.html and NAME.rst.

    Raises:
        UserError: there is no such result with claims, or a CSV is missing.
    """
    source = source_of(file, name, results)
    page = results / "pages" / f"{name}.html"
    texts = {page: as_html(document([source])), page.with_suffix(".rst"): caption(source)}
    return _written(texts)


def write_summary(file: str | Path, results: Path) -> list[Path]:
    """Write all of the paper's own results: tables and times first, by number.

    Args:
        file: of the claims, beside the folders of results.
        results: where their CSVs are.

    Returns:
        results/summary.md and summary.html.

    Raises:
        UserError: a CSV is missing.
    """
    sources = [source_of(file, name, results) for name in paper_results(Path(file).parent)]
    sources.sort(key=lambda source: (source.result.folder == "figures", _number(source.name)))
    blocks = document(sources)
    page = results / "summary.md"
    return _written({page: as_markdown(blocks), page.with_suffix(".html"): as_html(blocks)})


def source_of(file: str | Path, name: str, results: Path) -> Source:
    """A result that has claims and a page."""
    return Source(name, find_judged(name, Path(file).parent), results)


def _number(name: str) -> list[tuple[int, str]]:
    """A key by which table10 comes after table9-top."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _written(texts: dict[Path, str]) -> list[Path]:
    make_folders(texts)
    for file, content in texts.items():
        write_text(file, content)
    return list(texts)


# Documents


def document(sources: list[Source]) -> list[Block]:
    """All results, after the number of verdicts."""
    verdicts = [source.verdicts() for source in sources]
    blocks: list[Block] = [Heading("The paper's results and ours", 1), READING]
    if any(map(len, verdicts)):
        verdicts = corrected(verdicts) if len(sources) > 1 else verdicts
        blocks += [RULE, *counts(verdicts)]
    if any(map(len, verdicts)) and len(sources) > 1:
        lines = [
            (source.result.source, claim.quote, claim.words, claim.corrected)
            for source, rows in zip(sources, verdicts, strict=True)
            for claim in claims_of(rows)
        ]
        columns = ("of", "the paper says", "here", "with Holm's correction")
        blocks.append(Grid(columns, tuple(lines)))
    for source, rows in zip(sources, verdicts, strict=True):
        blocks += [Heading(source.title, 2), *source.blocks()]
        blocks += [claims_grid(rows)] if len(rows) else []
    return blocks


def corrected(verdicts: list["pd.DataFrame"]) -> list["pd.DataFrame"]:
    """Verdicts of all results with their p-values by Holm's correction, `p_holm`.

    Every comparison has two hypotheses, of no difference and of one as large as the margin, of
    which at most one is true; a verdict's p-value is that of the one that it rejects. A comparison
    that several claims speak of is one.
    """
    import numpy as np
    import pandas as pd

    rows = pd.concat(verdicts, keys=range(len(verdicts)), names=["result"])
    tested = rows[rows["p"].notna()]
    same = tested.groupby(list(COMPARED), dropna=False).ngroup()
    first = tested.groupby(same)[["p", "p_within"]].first()
    both = {(kind, i): p for kind in first for i, p in first[kind].items() if pd.notna(p)}
    strict = dict(zip(both, holm(np.array([*both.values()]), most=len(first)), strict=True))
    kinds = np.where(tested["verdict"] == ALIKE, "p_within", "p")
    own = [strict[rejected] for rejected in zip(kinds, same, strict=True)]
    rows["p_holm"] = pd.Series(own, tested.index, dtype=float).reindex(rows.index)
    return [rows[rows.index.get_level_values("result") == i] for i in range(len(verdicts))]


def counts(verdicts: list["pd.DataFrame"]) -> list[str]:
    """How many claims and comparisons have which verdict, by themselves and with the correction."""

    def line(what: str, found: Sequence[str]) -> str:
        numbers = ", ".join(f"{verdict} {found.count(verdict)}" for verdict in VERDICTS)
        return f"Verdicts on {len(found)} {what}: {numbers}."

    claims = [claim for rows in verdicts for claim in claims_of(rows)]
    rows = [row for claim in claims for row in claim.rows]
    lines = [
        line("claims", [claim.rows[0]["claim_verdict"] for claim in claims]),
        line("comparisons", [row["verdict"] for row in rows]),
    ]
    if tested := [row for row in rows if row.get("p_holm", -1.0) >= 0]:
        decided = [row for row in tested if row["verdict"] != OPEN]
        standing = sum(map(stands, decided))
        number = len({tuple(str(row[name]) for name in COMPARED) for row in tested})
        lines.append(HOLM.format(number=number, standing=standing, decided=len(decided)))
        strict = [claim.corrected for claim in claims]
        lines.append(line("claims with Holm's correction", strict))
    return lines


def stands(row: Row) -> bool:
    """Whether a verdict stands with the correction; a counted one needs none."""
    return not row.get("p_holm", 0) >= 0.05


def caption(source: Source) -> str:
    """Title, words and verdicts of a result as reStructuredText."""
    paragraphs = [block for block in source.blocks() if isinstance(block, str)]
    lines = [f"**{escaped(source.title)}**", "", *(f"{escaped(p)}\n" for p in paragraphs)]
    for claim in claims_of(source.verdicts()):
        lines += [f"- The paper: {escaped(claim.quote)}. Ours: {escaped(claim.words.signed)}.", ""]
        lines += [f"  - {escaped(f'{compared(r)}: {decided(r)[1].signed}')}" for r in claim.rows]
        lines.append("")
    return "\n".join(lines) + "\n"


def claims_grid(rows: "pd.DataFrame") -> Grid:
    """Claims with their verdicts: a line for each claim, and below it one for each comparison."""
    columns = ("the paper says", "its numbers", "our difference", "images", "verdict")
    lines = []
    for claim in claims_of(rows):
        lines.append((claim.quote, "", "", "", claim.words))
        for row in claim.rows:
            paper = [significant(row[f"paper_{side}"]) for side in ("higher", "lower")]
            ours = interval(row["difference"], row["low"], row["high"], significant)
            if row["paper_factor"] == row["paper_factor"]:
                paper.append(f"{significant(row['paper_factor'])} times")
                value, low, high = (row[f"ours_factor{bound}"] for bound in ("", "_low", "_high"))
                ours = f"{ours}; {interval(value, low, high, significant)} times" if ours else ""
            lines.append((compared(row), ", ".join(filter(None, paper)), ours, *decided(row)))
    return Grid(columns, tuple(lines))


def claims_of(rows: "pd.DataFrame") -> list[Verdict]:
    """The claims of a CSV, in its order."""
    claims = []
    for (section, quote), own in rows.groupby(["section", "quote"], sort=False):
        comparisons = own.to_dict("records")
        verdicts = Counter(own["verdict"])
        counted = [f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v]]
        cited = f"\u201c{quote}\u201d ({section})"
        said = own["claim_verdict"].iloc[0]
        words = Toned(f"{said} ({', '.join(counted)})", TONES[said])
        strict = overall(row["verdict"] if stands(row) else OPEN for row in comparisons)
        claims.append(Verdict(cited, words, Toned(strict, TONES[strict]), comparisons))
    return claims


def compared(row: Row) -> str:
    """What a comparison compares."""
    at = f" in {layer}" if (layer := text(row["layer"])) else ""
    return f"{column(row['column']).words}{at}: {row['higher']} above {row['lower']}"


def decided(row: Row) -> tuple[str, Toned]:
    """How many images speak for a comparison, and the verdict with what it rests on."""
    speaking, words = _decided(row)
    return speaking, Toned(words, TONES[row["verdict"]])


def _decided(row: Row) -> tuple[str, str]:
    """`decided` without the tone."""
    if row["verdict"] == NOT_MEASURED:
        return "", f"{NOT_MEASURED}: {row['note']}"
    if row["n"] != row["n"]:  # counted
        return "", row["verdict"]
    speaking = f"{row['wins']:.0f} for, {row['losses']:.0f} not"
    words = f"{row['verdict']} at n = {row['n']:.0f}"
    if row["verdict"] == ALIKE:
        return speaking, f"{words} (margin {significant(row['margin'])}{_by_holm(row)})"
    if row["verdict"] == OPEN:
        needed = row["n_needed"]
        return speaking, words if needed != needed else f"{words} (about {needed:.0f} would)"
    p = f"p = {significant(row['p'], 2)}" if row["p"] else "p < 1e-6"
    return speaking, f"{words} ({p}{_by_holm(row)})"


def _by_holm(row: Row) -> str:
    """Whether a verdict stands, where the correction is known."""
    if "p_holm" not in row:
        return ""
    return "; stands with Holm's correction" if stands(row) else "; not with Holm's correction"
