"""The paper's claims, config/claims.yaml, and their verdicts.

A claim is a quote and the comparisons that it stands for: of two rows of a table, two lines of a
figure, or two times. These are compared image by image (puriflow.metrics.paired). A comparison
*holds* if the 95 % interval of the difference lies on the side that the paper asserts, *does not
hold* if it lies on the other side, and is *not decidable* otherwise. Where the paper says how many
times as high, it is the interval of the ratio, and the side is that of the factor. A claim is as
good as its comparisons.

Where the interval has zero in it, but lies within a margin that the file of claims states
beforehand, there is *no difference that matters*: 3 points of accuracy, say, or the paper's own
difference if that is smaller.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from puriflow.config import Config, validated
from puriflow.errors import UserError, unknown
from puriflow.metrics.paired import Paired, compare
from puriflow.results.base import Model, make_folders
from puriflow.results.columns import CLAIMED, bounded, column, write_csv
from puriflow.results.finding import find_judged, judged_results
from puriflow.yaml_files import read_yaml

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, ALIKE = "holds", "does not hold", "no difference that matters"
OPEN, NOT_MEASURED = "not decidable", "not measured"
VERDICTS = (HOLDS, FAILS, ALIKE, OPEN, NOT_MEASURED)
SIDES = {1: HOLDS, -1: FAILS}
REACH: dict[str | None, int] = {
    "share": 1,
    "gap": 2,
}  # how far apart the values of two rows may lie
COLUMNS = (
    *("about", "section", "quote", "claim_verdict"),
    *("column", "layer", "higher", "lower", "paper_higher", "paper_lower", "paper_factor"),
    *("n", "ours_higher", "ours_lower", "difference", "low", "high"),
    *("ours_factor", "ours_factor_low", "ours_factor_high"),
    *("margin", "p", "p_within", "wins", "losses", "verdict", "n_needed", "note"),
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
        if self.factor is not None and column(self.column).claim in REACH:
            raise ValueError(f"{self.column} of an image may be 0: it has no factor")
        return self


class Claim(Model):
    """A sentence of the paper, and what it says of a table, a figure, or times."""

    about: str = Field(description="name of the file of the table, figure or timing")
    section: str
    quote: str
    says: tuple[Comparison, ...] = Field(min_length=1)


class Margins(Model):
    """What is no difference that matters, unless the paper's own is smaller."""

    points: float = Field(gt=0, lt=100, description="of shares, in points")
    ratio: float = Field(gt=1, description="of all else, to the median of the lower row")

    def of(self, says: Comparison, paper: Sequence[float | None], lower: np.ndarray) -> float:
        """The margin of a comparison, in the unit of its values.

        Args:
            says: the comparison.
            paper: the paper's numbers of the higher and the lower row, where it has them.
            lower: values of the lower row, to whose median the ratio is.
        """
        higher, base = (number or 0.0 for number in paper)
        if column(says.column).claim in REACH:
            own = higher - base
            return min(self.points, own if own > 0 else self.points) / 100
        own = higher / base if base > 0 else 0.0
        return float(np.median(lower)) * (min(self.ratio, own if own > 1 else self.ratio) - 1)


class Claims(Model):
    """A file of claims, and the margins within which no difference matters."""

    margins: Margins
    claims: tuple[Claim, ...]


def load_claims(file: str | Path, known: Iterable[str] | None = None) -> Claims:
    """Read and check a file of claims.

    Args:
        file: beside the folders of results.
        known: names that claims may be about; default: the results that are there.

    Raises:
        UserError: it is missing, says something that is not known, or is about something unknown.
    """
    found = validated(Claims, read_yaml(file, "claims"), f"claims {file}")
    known = judged_results(Path(file).parent) if known is None else list(known)
    for claim in found.claims:
        if claim.about not in known:
            raise unknown(f"result (about in claims {file})", claim.about, known)
    return found


def claims_about(file: str | Path, name: str) -> Claims:
    """A file of claims without those about other results; they name lines that the result has.

    Raises:
        UserError: see `load_claims`; or a claim names another line.
    """
    found = load_claims(file)
    claims = tuple(claim for claim in found.claims if claim.about == name)
    known = find_judged(name, Path(file).parent).lines_of_claims()
    for line in (x for claim in claims for says in claim.says for x in (says.higher, says.lower)):
        if line not in known:
            raise unknown(f"line of {name} (in claims {file})", line, known)
    return found.model_copy(update={"claims": claims})


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
    found = claims_about(file, name)
    result = find_judged(name, Path(file).parent)
    out = results / "claims" / f"{name}.csv"
    make_folders([out])
    lines = dict.fromkeys(
        x for claim in found.claims for says in claim.says for x in (says.higher, says.lower)
    )
    evidence = Evidence(name, result.evidence(track, name, results, lines))
    write_csv(judge(found, evidence), COLUMNS, out)
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


def judge(found: Claims, evidence: Evidence) -> list[dict[str, Any]]:
    """What the evidence says of claims: a line for each comparison."""
    lines: list[dict[str, Any]] = []
    for claim in found.claims:
        own = [line for says in claim.says for line in _judged(says, evidence, found.margins)]
        shared = claim.model_dump(exclude={"says"})
        shared["claim_verdict"] = overall([line["verdict"] for line in own])
        lines += [shared | line for line in own]
    return lines


def overall(verdicts: Iterable[str]) -> str:
    """The verdict on a claim: the worst of those on its comparisons that were measured.

    One that does not hold refutes it, and one that is open leaves it open; where all hold but some,
    of which no difference matters, none that matters is what was found.
    """
    measured = set(verdicts)
    worst = (FAILS, OPEN, ALIKE, HOLDS)
    return next((verdict for verdict in worst if verdict in measured), NOT_MEASURED)


def _judged(says: Comparison, evidence: Evidence, margins: Margins) -> Iterator[dict[str, Any]]:
    """A comparison's lines: one, or one for every layer."""
    line = says.model_dump(exclude={"factor"}) | {"paper_factor": says.factor}
    sides = (says.higher, says.lower)
    paper = [evidence.paper(side, says.column) for side in sides]
    line["paper_higher"], line["paper_lower"] = paper
    reasons = [evidence.why_not(side, says.column) for side in sides]
    if any(reasons):
        note = "; ".join(filter(None, dict.fromkeys(reasons)))
        yield line | {"verdict": NOT_MEASURED, "note": note}
        return
    for layer in evidence.layers(says.layer):
        higher, lower = (evidence.values(side, says.column, layer) for side in sides)
        margin = margins.of(says, paper, lower.to_numpy())
        yield line | {"layer": layer} | verdict(says, higher, lower, margin)


def verdict(
    says: Comparison, higher: "pd.Series", lower: "pd.Series", margin: float
) -> dict[str, Any]:
    """What two rows' values by image say of a comparison; accuracies in percent.

    Args:
        says: the comparison.
        higher: values of the row that is higher, says the paper.
        lower: values of the other.
        margin: in their unit, within which no difference matters.
    """
    if list(higher.index) != list(lower.index):
        raise UserError(f"claim: {says.higher!r} and {says.lower!r} are not of the same images")
    first, second = (values.to_numpy(dtype=np.float64) for values in (higher, lower))
    judged_as = column(says.column).claim
    if judged_as == "counted":
        return _exact(says, float(first[0]), float(second[0]))
    paired = compare(first, second, reach=REACH.get(judged_as))
    scale = 100 if judged_as in REACH else 1
    numbers = {
        "ours_higher": first.mean(),
        "ours_lower": second.mean(),
        "difference": paired.difference,
        "low": paired.interval[0],
        "high": paired.interval[1],
        "margin": margin,
    }
    return {
        **{name: float(f"{scale * float(value):.4g}") for name, value in numbers.items()},
        "n": len(first),
        "p_within": round(paired.tests.p_within(margin), 6),
        **_said(paired, margin),
        **(_by_factor(says, says.factor, first, second) if says.factor else {}),
    }


def _said(paired: Paired, margin: float) -> dict[str, Any]:
    """The verdict on a comparison: a side that is established is one within the margin, too."""
    alike = ALIKE if paired.within(margin) else OPEN
    said = SIDES.get(paired.side, alike)
    return {
        "p": round(paired.tests.p(), 6),
        "wins": paired.wins,
        "losses": paired.losses,
        "verdict": said,
        "n_needed": paired.tests.images_needed(margin) if said == OPEN else None,
    }


def _by_factor(
    says: Comparison, factor: float, first: np.ndarray, second: np.ndarray
) -> dict[str, Any]:
    """The verdict by the ratio of two rows' values, image by image, and its interval."""
    if min(first.min(), second.min()) <= 0:
        raise UserError(f"claim: {says.column} has values of 0, and so no factor")
    logs = compare(np.log(first), np.log(second) + np.log(factor), reach=None)
    ours = (factor * np.exp(bound) for bound in (logs.difference, *logs.interval))
    return {
        **bounded("ours_factor", (float(f"{number:.4g}") for number in ours)),
        **{"margin": None, "p_within": None},
        **_said(logs, margin=0),
    }


def _exact(says: Comparison, higher: float, lower: float) -> dict[str, Any]:
    """The verdict on counted numbers, which have no interval; a factor that is reached holds."""
    numbers = {"ours_higher": higher, "ours_lower": lower, "difference": higher - lower}
    side = int(higher > lower) - int(higher < lower)
    if says.factor is not None:
        numbers["ours_factor"] = higher / lower
        side = 1 if higher >= says.factor * lower else -1
    return {name: float(f"{value:.4g}") for name, value in numbers.items()} | {
        "verdict": SIDES.get(side, ALIKE)
    }
