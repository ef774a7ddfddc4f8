"""The paper's claims, config/claims.yaml, and their verdicts.

A claim is a quote and the comparisons that it stands for: of two rows of a table, two lines of a
figure, or two times. These are compared image by image (puriflow.metrics.paired). A comparison
*holds* if the 95 % interval of the difference lies on the side that the paper asserts, *does not
hold* if it lies on the other side, and is *not decidable* otherwise. Where the paper says how many
times as high, it is the interval of the ratio, and the side is that of the factor. A claim is as
good as its comparisons.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from puriflow.config import Config, validated
from puriflow.errors import UserError, unknown
from puriflow.metrics.paired import compare
from puriflow.results.base import Model, make_folders
from puriflow.results.columns import CLAIMED, bounded, column, write_csv
from puriflow.results.finding import find_judged, judged_results
from puriflow.yaml_files import read_yaml

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, OPEN, NOT_MEASURED = "holds", "does not hold", "not decidable", "not measured"
VERDICTS = (HOLDS, FAILS, OPEN, NOT_MEASURED)
SIDES = {1: HOLDS, -1: FAILS, 0: OPEN}
COLUMNS = (
    *("about", "section", "quote", "claim_verdict"),
    *("column", "layer", "higher", "lower", "paper_higher", "paper_lower", "paper_factor"),
    *("n", "ours_higher", "ours_lower", "difference", "low", "high"),
    *("ours_factor", "ours_factor_low", "ours_factor_high"),
    *("wins", "losses", "verdict", "note"),
)


def _claimed(name: str) -> str:
    if name not in CLAIMED:
        raise ValueError(str(unknown("column of a claim", name, CLAIMED)))
    return name


class Comparison(Model):
    """Which of two rows, lines or times the paper says is higher, and in what."""

    column: Annotated[str, AfterValidator(_claimed)]
    higher: str = Field(description="method of a row, or label of a line")
    lower: str
    factor: float | None = Field(
        None, gt=1, description="how many times as high, or higher still, says the paper"
    )
    layer: Literal["each", "first", "last"] | None = Field(
        None, description="of a figure's feature network; `each` is a comparison for every layer"
    )

    @model_validator(mode="after")
    def _a_ratio(self) -> "Comparison":
        if self.factor is not None and column(self.column).claim == "share":
            raise ValueError(f"{self.column} of an image may be 0: it has no factor")
        return self


class Claim(Model):
    """A sentence of the paper, and what it says of a table, a figure, or times."""

    about: str = Field(description="name of the file of the table, figure or timing")
    section: str
    quote: str
    says: tuple[Comparison, ...] = Field(min_length=1)


class Claims(Model):
    """A file of claims."""

    claims: tuple[Claim, ...]


def load_claims(file: str | Path, known: Iterable[str] | None = None) -> tuple[Claim, ...]:
    """Read and check a file of claims.

    Args:
        file: beside the folders of results.
        known: names that claims may be about; default: the results that are there.

    Raises:
        UserError: it is missing, says something that is not known, or is about something unknown.
    """
    claims = validated(Claims, read_yaml(file, "claims"), f"claims {file}").claims
    known = judged_results(Path(file).parent) if known is None else list(known)
    for claim in claims:
        if claim.about not in known:
            raise unknown(f"result (about in claims {file})", claim.about, known)
    return claims


def claims_about(file: str | Path, name: str) -> list[Claim]:
    """The claims about a result, each of which names lines that the result has.

    Raises:
        UserError: see `load_claims`; or a claim names another line.
    """
    claims = [claim for claim in load_claims(file) if claim.about == name]
    known = find_judged(name, Path(file).parent).lines_of_claims()
    for line in (x for claim in claims for says in claim.says for x in (says.higher, says.lower)):
        if line not in known:
            raise unknown(f"line of {name} (in claims {file})", line, known)
    return claims


def judge_result(file: str | Path, name: str, track: Config, results: Path) -> list[Path]:
    """Judge the claims about a result, and write the verdicts as results/claims/NAME.csv.

    Args:
        file: of the claims, beside the folders of results.
        name: of the result.
        track: what serves its roles.
        results: where its stores and files are.

    Returns:
        The file.

    Raises:
        UserError: a claim names something that is not there, or the result's files are not.
    """
    claims = claims_about(file, name)
    result = find_judged(name, Path(file).parent)
    out = results / "claims" / f"{name}.csv"
    make_folders([out])
    lines = dict.fromkeys(
        x for claim in claims for says in claim.says for x in (says.higher, says.lower)
    )
    evidence = Evidence(name, result.evidence(track, name, results, lines))
    write_csv(judge(claims, evidence), COLUMNS, out)
    return [out]


class Evidence:
    """What the values of images, or of repeats, say of the lines of a result.

    Args:
        name: of the result.
        values: see `Judged.evidence`.
    """

    def __init__(self, name: str, values: "pd.DataFrame"):
        self.name, self.rows = name, values

    def _of(self, line: str) -> "pd.DataFrame":
        rows = self.rows[self.rows["line"] == line]
        if rows.empty:
            raise unknown(f"line of {self.name}", line, set(self.rows["line"]))
        return rows

    def why_not(self, line: str, metric: str) -> str | None:
        """Why a metric of a line was not measured; None if it was."""
        rows = self._of(line)
        own = rows[rows["metric"] == metric]
        rows = rows if own.empty else own
        return str(rows["note"].iloc[0]) if rows["value"].isna().all() else None

    def paper(self, line: str, metric: str) -> float | None:
        """The paper's number, if it has one."""
        rows = self._of(line)
        numbers = rows.loc[rows["metric"] == metric].get("paper", ())
        return next((float(number) for number in numbers if number == number), None)

    def layers(self, which: str | None) -> list[str | None]:
        """The layers that a comparison is about; one None where it is about none."""
        if which is None:
            return [None]
        layers = list(self.rows["layer"].dropna().unique())
        return {"each": layers, "first": layers[:1], "last": layers[-1:]}[which]

    def values(self, line: str, metric: str, layer: str | None) -> "pd.Series":
        """Our numbers by the data-set index of the image, or by the repeat."""
        rows = self._of(line)
        rows = rows[rows["metric"] == metric]
        if layer is not None:
            rows = rows[rows["layer"] == layer]
        if rows.empty:
            raise UserError(f"claim about {self.name}: {line!r} has no {metric}")
        if rows["index"].duplicated().any():
            raise UserError(f"claim about {self.name}: {metric} needs a layer")
        return rows.set_index("index")["value"]


def judge(claims: Iterable[Claim], evidence: Evidence) -> list[dict[str, Any]]:
    """What the evidence says of claims: a line for each comparison."""
    lines: list[dict[str, Any]] = []
    for claim in claims:
        own = [line for says in claim.says for line in _judged(says, evidence)]
        shared = claim.model_dump(exclude={"says"})
        shared["claim_verdict"] = overall([line["verdict"] for line in own])
        lines += [shared | line for line in own]
    return lines


def overall(verdicts: list[str]) -> str:
    """The verdict on a claim from those on its comparisons; what was not measured says nothing."""
    measured = set(verdicts) - {NOT_MEASURED}
    if not measured:
        return NOT_MEASURED
    if FAILS in measured:
        return FAILS
    return HOLDS if measured == {HOLDS} else OPEN


def _judged(says: Comparison, evidence: Evidence) -> Iterator[dict[str, Any]]:
    """A comparison's lines: one, or one for every layer."""
    line = says.model_dump(exclude={"factor"}) | {"paper_factor": says.factor}
    sides = (says.higher, says.lower)
    line["paper_higher"], line["paper_lower"] = (evidence.paper(x, says.column) for x in sides)
    reasons = [evidence.why_not(side, says.column) for side in sides]
    if any(reasons):
        note = "; ".join(filter(None, dict.fromkeys(reasons)))
        yield line | {"verdict": NOT_MEASURED, "note": note}
        return
    for layer in evidence.layers(says.layer):
        values = [evidence.values(side, says.column, layer) for side in sides]
        yield line | {"layer": layer} | verdict(says, *values)


def verdict(says: Comparison, higher: "pd.Series", lower: "pd.Series") -> dict[str, Any]:
    """What two rows' values by image say of a comparison; accuracies in percent."""
    if list(higher.index) != list(lower.index):
        raise UserError(f"claim: {says.higher!r} and {says.lower!r} are not of the same images")
    first, second = (values.to_numpy(dtype=np.float64) for values in (higher, lower))
    judged_as = column(says.column).claim
    if judged_as == "counted":
        return _exact(says, float(first[0]), float(second[0]))
    share = judged_as == "share"
    paired = compare(first, second, skewed=not share)
    scale = 100 if share else 1
    numbers = {
        "ours_higher": first.mean(),
        "ours_lower": second.mean(),
        "difference": paired.difference,
        "low": paired.low,
        "high": paired.high,
    }
    return {
        **{name: float(f"{scale * float(value):.4g}") for name, value in numbers.items()},
        "n": len(first),
        "wins": paired.wins,
        "losses": paired.losses,
        "verdict": SIDES[paired.side],
        **(_by_factor(says, says.factor, first, second) if says.factor else {}),
    }


def _by_factor(
    says: Comparison, factor: float, first: np.ndarray, second: np.ndarray
) -> dict[str, Any]:
    """The verdict by the ratio of two rows' values, image by image, and its interval."""
    if min(first.min(), second.min()) <= 0:
        raise UserError(f"claim: {says.column} has values of 0, and so no factor")
    logs = compare(np.log(first), np.log(second) + np.log(factor), skewed=True)
    ours = (factor * np.exp(bound) for bound in (logs.difference, logs.low, logs.high))
    return {
        **bounded("ours_factor", (float(f"{number:.4g}") for number in ours)),
        "wins": logs.wins,
        "losses": logs.losses,
        "verdict": SIDES[logs.side],
    }


def _exact(says: Comparison, higher: float, lower: float) -> dict[str, Any]:
    """The verdict on counted numbers, which have no interval; a factor that is reached holds."""
    numbers = {"ours_higher": higher, "ours_lower": lower, "difference": higher - lower}
    side = int(higher > lower) - int(higher < lower)
    if says.factor is not None:
        numbers["ours_factor"] = higher / lower
        side = 1 if higher >= says.factor * lower else -1
    return {name: float(f"{value:.4g}") for name, value in numbers.items()} | {
        "verdict": SIDES[side]
    }
