"""What claims are judged by: the values of rows, lines and times, image by image.

A table's come from the stores of its chains; a figure's and a timing's from the CSV of all that was
measured for it, `results/measures/NAME.csv`, where the index is the image or the repeat.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puriflow.errors import UserError, unknown
from puriflow.results.claims import COUNTED, Values
from puriflow.results.csvs import read_csv
from puriflow.results.measures import measurer, outcomes
from puriflow.results.table import Roles, Row, Table, chains, shards_of, unavailable

if TYPE_CHECKING:
    import pandas as pd


class TableEvidence:
    """The rows of a table.

    Args:
        name: of its file, without ending.
        table: it.
        roles: see `puriflow.results.table.served`.
        results: where the stores and the table's CSV are.
    """

    def __init__(self, name: str, table: Table, roles: Roles, results: Path):
        self.name, self.table, self.roles, self.results = name, table, roles, results
        self.opened, self.measured = measurer(roles, results)
        self.of_row = cache(self._of_row)  # claims name the same rows again and again

    def row(self, method: str) -> Row:
        """The row of a method.

        Raises:
            UserError: there is none of that name, or several.
        """
        found = [row for row in self.table.rows if row.method == method]
        if not found:
            raise unknown(f"method of {self.name}", method, {r.method for r in self.table.rows})
        if len(found) > 1:
            raise UserError(f"{self.name} has {len(found)} rows of {method!r}: a claim needs one")
        return found[0]

    def why_not(self, name: str) -> str | None:
        """See `Evidence`."""
        row = self.row(name)
        if row.quoted is not None:
            return f"{row.method} is quoted from {row.quoted}"
        return unavailable(self.table, row, self.roles)

    def paper(self, name: str, column: str) -> float | None:
        """See `Evidence`."""
        paper = self.row(name).paper
        if column == "gap":
            return None if None in (paper.standard, paper.robust) else paper.standard - paper.robust
        return getattr(paper, column, None)

    def layers(self) -> list[str]:
        """A table has none."""
        return []

    def values(self, name: str, column: str, layer: str | None) -> Values:
        """See `Evidence`; counted columns have one value, from the table's CSV."""
        if column in COUNTED:
            return {0: self._counted(name, column)}
        found = self.of_row(name)
        return dict(zip(found["index"].tolist(), found[column].tolist(), strict=True))

    def _of_row(self, name: str) -> dict[str, np.ndarray]:
        """The outcomes of each image by column, and `index`."""
        row = self.row(name)
        clean, attacked = chains(self.table, row, self.roles)
        found = [self.measured(chain) for chain in attacked]
        right = outcomes(self.table, row, self.roles, self.measured(clean), found)
        shards = shards_of(clean, self.roles)
        stores = [self.opened(clean.folder("images", shard)) for shard in shards]
        return {
            **right,
            "gap": right["standard"] - right["robust"],
            "cross_entropy": np.max([m.losses for m in found], axis=0),
            "index": np.concatenate([store.read("index") for store in stores]),
        }

    def _counted(self, name: str, column: str) -> float:
        rows = read_csv(self.results / f"{self.name}.csv", ("method", column))
        return float(rows.set_index("method")[column][name])


class MeasuredEvidence:
    """The lines of a figure, or the times of parts, from a CSV of all that was measured.

    Args:
        file: the CSV: line, layer, index, metric, value, note, and for times paper.
    """

    def __init__(self, file: Path):
        self.file = file
        self.rows = read_csv(file, ("line", "layer", "index", "metric", "value", "note"))

    def _of(self, name: str) -> "pd.DataFrame":
        rows = self.rows[self.rows["line"] == name]
        if rows.empty:
            raise unknown(f"line of {self.file.stem}", name, set(self.rows["line"]))
        return rows

    def why_not(self, name: str) -> str | None:
        """See `Evidence`."""
        rows = self._of(name)
        return str(rows["note"].iloc[0]) if rows["value"].isna().all() else None

    def paper(self, name: str, column: str) -> float | None:
        """See `Evidence`; only times have them."""
        if "paper" not in self.rows:
            return None
        value = float(self._of(name)["paper"].iloc[0])
        return None if np.isnan(value) else value

    def layers(self) -> list[str]:
        """See `Evidence`."""
        return list(self.rows["layer"].dropna().unique())

    def values(self, name: str, column: str, layer: str | None) -> Values:
        """See `Evidence`.

        Raises:
            UserError: this column, or this layer, was not measured.
        """
        rows = self._of(name)
        rows = rows[rows["metric"] == column]
        if layer is not None:
            rows = rows[rows["layer"] == layer]
        if rows.empty:
            raise UserError(f"claim about {self.file.stem}: {name!r} has no {column}")
        if rows["index"].duplicated().any():
            raise UserError(f"claim about {self.file.stem}: {column} needs a layer")
        return dict(zip(rows["index"].tolist(), rows["value"].tolist(), strict=True))
