"""A table as a paper prints it: booktabs, and its interval beside each number."""

from pathlib import Path
from typing import Any

from puriflow.results.columns import column, read_csv
from puriflow.results.documents import Grid, as_latex, fixed, interval, text
from puriflow.results.table import ACCURACIES

BEHIND_RESULTS = False


def latex(name: str, results: Path) -> str:
    """The table of a name, from its CSV below the results.

    Raises:
        UserError: it is not built, or is no table.
    """
    needed = ["method", "type", "n", "note"]
    for accuracy in ACCURACIES:
        needed += [accuracy, f"{accuracy}_low", f"{accuracy}_high", f"paper_{accuracy}"]
    rows = read_csv(results / f"{name}.csv", needed)
    heads = [head for one in ACCURACIES for head in (column(one).words, "paper")]
    lines = [_line(row) for row in rows.to_dict("records")]
    notes = dict.fromkeys(filter(None, (text(note) for note in rows["note"])))
    grid = Grid(("method", "type", "n", *heads), tuple(lines))
    return as_latex(grid, note=f"Percent, with 95 % intervals. {'; '.join(notes)}".strip())


def _line(row: dict[Any, Any]) -> tuple[str, ...]:
    cells = [text(row["method"]), text(row["type"]), fixed(row["n"], 0)]
    for name in ACCURACIES:
        own = row[name], row[f"{name}_low"], row[f"{name}_high"]
        cells += [interval(*own), fixed(row[f"paper_{name}"])]
    return tuple(cells)
