"""The paper's claims as data, config/claims.yaml, and their verdicts from the stores.

A claim is a quote and the comparisons of two rows of a table that it stands for. The two rows'
chains are compared image by image (puriflow.metrics.paired). It *holds* if the 95 % interval of the
difference lies on the side that the paper asserts, *does not hold* if it lies on the other side,
and is *not decidable* otherwise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from puriflow.errors import Problem, unknown
from puriflow.measuring import measurer, outcomes
from puriflow.metrics.paired import compare
from puriflow.tables import Roles, Row, Table, chains, load, shards_of, unavailable

VERDICTS = {1: "holds", -1: "does not hold", 0: "not decidable"}
NOT_MEASURED = "not measured"
COLUMNS = (
    "table",
    "section",
    "quote",
    "column",
    "higher",
    "lower",
    "paper_higher",
    "paper_lower",
    "n",
    "ours_higher",
    "ours_lower",
    "difference",
    "low",
    "high",
    "wins",
    "losses",
    "verdict",
    "note",
)
Values = dict[str, np.ndarray]  # of each image: the outcomes by column, and `index`


class Comparison(BaseModel):
    """Which of two rows the paper says is higher, and in what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Literal["standard", "robust", "cross_entropy"]
    higher: str = Field(description="method of a row")
    lower: str = Field(description="method of a row")


class Claim(BaseModel):
    """A sentence of the paper, and what it says of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(description="name of the table's file")
    section: str
    quote: str
    says: tuple[Comparison, ...] = Field(min_length=1)


class Claims(BaseModel):
    """A file of claims."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claims: tuple[Claim, ...]


def load_claims(path: str | Path) -> tuple[Claim, ...]:
    """Read and check a file of claims.

    Raises:
        Problem: it is missing, or says something that is not known.
    """
    return load(Claims, path, "claims").claims


def row_of(table: Table, name: str, method: str) -> Row:
    """The row of a method.

    Raises:
        Problem: there is none of that name, or several.
    """
    found = [row for row in table.rows if row.method == method]
    if not found:
        raise unknown(f"method of {name}", method, {row.method for row in table.rows})
    if len(found) > 1:
        raise Problem(f"{name} has {len(found)} rows of the method {method!r}: a claim needs one")
    return found[0]


def not_measured(table: Table, row: Row, roles: Roles) -> str | None:
    """Why a row has no results to compare; None if it has."""
    if row.quoted is not None:
        return f"{row.method} is quoted from {row.quoted}"
    return unavailable(table, row, roles)


def values_of(table: Table, roles: Roles, results: Path) -> Callable[[Row], Values]:
    """A function from a row to its outcomes of each image."""
    opened, measured = measurer(roles, results)

    def values(row: Row) -> Values:
        clean, attacked = chains(table, row, roles)
        found = [measured(chain) for chain in attacked]
        stores = [opened(clean.folder("images", shard)) for shard in shards_of(clean, roles)]
        return {
            **outcomes(table, row, roles, measured(clean), found),
            "cross_entropy": np.max([m.losses for m in found], axis=0),
            "index": np.concatenate([store.read("index") for store in stores]),
        }

    return values


def verdict(said: Comparison, higher: Values, lower: Values) -> dict[str, Any]:
    """What our results say of a comparison; accuracies in percent.

    Raises:
        Problem: the two rows are not of the same images.
    """
    if not np.array_equal(higher["index"], lower["index"]):
        raise Problem(f"claim: {said.higher!r} and {said.lower!r} are not of the same images")
    scale = 1 if said.column == "cross_entropy" else 100
    first, second = higher[said.column], lower[said.column]
    found = compare(first, second)
    numbers = {
        "ours_higher": first.mean(),
        "ours_lower": second.mean(),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
    }
    return {
        **{name: round(scale * float(value), 2) for name, value in numbers.items()},
        "n": len(first),
        "wins": found.wins,
        "losses": found.losses,
        "verdict": VERDICTS[found.side],
    }


def judge(
    claims: tuple[Claim, ...], name: str, table: Table, roles: Roles, results: Path
) -> list[dict[str, Any]]:
    """The claims about a table, a line for each comparison.

    Args:
        claims: of any tables.
        name: of this table's file, without its ending.
        table: it.
        roles: see `puriflow.tables.served`.
        results: where the stores are.
    """
    lines = []
    values = values_of(table, roles, results)
    for claim in (claim for claim in claims if claim.table == name):
        for said in claim.says:
            rows = [row_of(table, name, method) for method in (said.higher, said.lower)]
            paper = [getattr(row.paper, said.column, None) for row in rows]
            line = {**claim.model_dump(exclude={"says"}), **said.model_dump()}
            line |= {"paper_higher": paper[0], "paper_lower": paper[1]}
            reasons = [not_measured(table, row, roles) for row in rows]
            if any(reasons):
                note = "; ".join(filter(None, dict.fromkeys(reasons)))
                line |= {"verdict": NOT_MEASURED, "note": note}
            else:
                line |= verdict(said, *map(values, rows))
            lines.append(line)
    return lines


def write_claims(
    claims: tuple[Claim, ...], name: str, table: Table, roles: Roles, results: Path, out: Path
) -> None:
    """Write the verdicts on a table's claims as a CSV."""
    import pandas as pd

    lines = judge(claims, name, table, roles, results)
    whole = dict.fromkeys(("n", "wins", "losses"), "Int64")
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines, columns=list(COLUMNS)).astype(whole).to_csv(out, index=False)
