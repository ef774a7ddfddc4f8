"""The results of several tracks in one page of Markdown: what docs/results.md says of them.

    python benchmarks/side_by_side.py results large/results

Each argument is a folder of results, and what is not built there is left out. First the verdicts on
the paper's claims, with how many images they rest on, then standard and robust accuracies by table.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from puriflow.results.columns import read_csv
from puriflow.results.documents import Block, Grid, Heading, as_markdown, interval
from puriflow.results.finding import class_of, find_judged, paper_results
from puriflow.results.summary import Source, claims_of, source_of

CLAIMS = Path("config/claims.yaml")
ACCURACIES = ("standard", "robust")


def images(rows: pd.DataFrame) -> str:
    """How many images some rows are of, at most; nothing if none was measured."""
    return "" if rows["n"].isna().all() else f", n = {rows['n'].max():.0f}"


def verdicts(tracks: dict[str, list[Source]]) -> list[Block]:
    """A line for each claim, with a column for each track; empty where one has not built it."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    counts: list[Block] = []
    for track, sources in tracks.items():
        counted: Counter[str] = Counter()
        for source in sources:
            if (source.results / "claims" / f"{source.name}.csv").is_file():
                for claim in claims_of(source.verdicts()):
                    words = claim.words + images(pd.DataFrame(claim.rows))
                    cells.setdefault((source.result.source, claim.quote), {})[track] = words
                    counted[claim.rows[0]["claim_verdict"]] += 1
        said = ", ".join(f"{verdict} {count}" for verdict, count in counted.most_common())
        counts.append(f"{track}: {said or 'nothing'}.")
    lines = ((*of, *(own.get(track, "") for track in tracks)) for of, own in cells.items())
    return [*counts, Grid(("of", "the paper says", *tracks), tuple(lines))]


def accuracies(tracks: Iterable[str], name: str) -> list[Block]:
    """The rows of a table, with accuracies of each track and those of the paper."""
    files = {track: Path(track) / f"{name}.csv" for track in tracks}
    tables = {track: read_csv(f, ("method", "n")) for track, f in files.items() if f.is_file()}
    if not tables:
        return []
    methods = next(iter(tables.values()))["method"]
    columns, heads = [], []
    for track, rows in tables.items():
        for which in ACCURACIES:
            bounds = zip(*(rows[f"{which}{end}"] for end in ("", "_low", "_high")), strict=True)
            columns.append(["" if v != v else interval(v, low, high) for v, low, high in bounds])
            heads.append(f"{track}: {which}{images(rows)}")
    for which in ACCURACIES:
        columns.append(["" if v != v else f"{v:.2f}" for v in rows[f"paper_{which}"]])
        heads.append(f"paper: {which}")
    return [Grid(("method", *heads), tuple(zip(methods, *columns, strict=True)))]


def main(folders: list[str]) -> None:
    """Print the page."""
    named = paper_results(CLAIMS.parent)
    tracks = {f: [source_of(CLAIMS, name, Path(f)) for name in named] for f in folders}
    blocks = verdicts(tracks)
    for name in named:
        result = find_judged(name, CLAIMS.parent)
        if isinstance(result, class_of("tables")):
            found = accuracies(tracks, name)
            blocks += [Heading(f"{result.source}: {result.title}", 2), *found] if found else []
    print(as_markdown(blocks))


if __name__ == "__main__":
    main(sys.argv[1:] or ["results"])
