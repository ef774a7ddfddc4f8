"""The paper's claims as data, config/claims.yaml, and their verdicts.

A claim is a quote and the comparisons that it stands for: of two rows of a table, two lines of a
figure, or two times. These are compared image by image (puriflow.metrics.paired). A comparison
*holds* if the 95 % interval of the difference lies on the side that the paper asserts, *does not
hold* if it lies on the other side, and is *not decidable* otherwise; a claim is as good as its
comparisons. What is compared comes from puriflow.results.evidence.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from puriflow.errors import UserError, unknown
from puriflow.metrics.paired import compare
from puriflow.results.table import load

HOLDS, FAILS, OPEN, NOT_MEASURED = "holds", "does not hold", "not decidable", "not measured"
VERDICTS = (HOLDS, FAILS, OPEN, NOT_MEASURED)
SIDES = {1: HOLDS, -1: FAILS, 0: OPEN}
SHARES = ("standard", "robust", "gap", "correct")  # of images, in percent
COUNTED = ("macs_g", "params_m")  # exact: nothing is random in them
COLUMNS = (
    *("about", "section", "quote", "claim_verdict"),
    *("column", "layer", "higher", "lower", "paper_higher", "paper_lower", "paper_factor"),
    *(
        "n",
        "ours_higher",
        "ours_lower",
        "ours_factor",
        "difference",
        "low",
        "high",
        "wins",
        "losses",
    ),
    *("verdict", "note"),
)


class Comparison(BaseModel):
    """Which of two rows, lines or times the paper says is higher, and in what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Literal[
        *("standard", "robust", "gap", "cross_entropy", "macs_g", "params_m"),
        *("content_distance", "mse", "cam_similarity", "correct", "seconds"),
    ]
    higher: str = Field(description="method of a row, or label of a line")
    lower: str
    factor: float | None = Field(None, gt=1, description="how many times as high, says the paper")
    layer: Literal["each", "first", "last"] | None = Field(
        None, description="of a figure's feature network; `each` is a comparison for every layer"
    )


class Claim(BaseModel):
    """A sentence of the paper, and what it says of a table, a figure, or times."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = Field(description="name of the file of the table, figure or timing")
    section: str
    quote: str
    says: tuple[Comparison, ...] = Field(min_length=1)


class Claims(BaseModel):
    """A file of claims."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claims: tuple[Claim, ...]


Values = dict[int, float]  # by data-set index of the image, or by repeat


class Evidence(Protocol):
    """What a judge asks of results; `name` is the method of a row or the label of a line."""

    def why_not(self, name: str) -> str | None:
        """Why it has no results; None if it has."""

    def paper(self, name: str, column: str) -> float | None:
        """The paper's number, if it has one."""

    def layers(self) -> list[str]:
        """The layers of the feature network, in order."""

    def values(self, name: str, column: str, layer: str | None) -> Values:
        """Our numbers."""


def load_claims(path: str | Path, known: Iterable[str] | None = None) -> tuple[Claim, ...]:
    """Read and check a file of claims.

    Args:
        path: of the file.
        known: names of all tables, figures and timings; None for those that are not checked.

    Raises:
        UserError: it is missing, says something that is not known, or is about something unknown.
    """
    claims = load(Claims, path, "claims").claims
    for claim in claims if known is not None else ():
        if claim.about not in known:
            raise unknown(f"result (about in claims {path})", claim.about, known)
    return claims


def judge(claims: Iterable[Claim], evidence: Evidence) -> list[dict[str, Any]]:
    """What the evidence says of claims: a line for each comparison.

    Raises:
        UserError: a claim names a row or line that the evidence does not know.
    """
    lines: list[dict[str, Any]] = []
    for claim in claims:
        own = [line for said in claim.says for line in _judged(said, evidence)]
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


def _judged(said: Comparison, evidence: Evidence) -> Iterator[dict[str, Any]]:
    """A comparison's lines: one, or one for every layer."""
    line = said.model_dump(exclude={"factor"}) | {"paper_factor": said.factor}
    for side in ("higher", "lower"):
        line[f"paper_{side}"] = evidence.paper(getattr(said, side), said.column)
    reasons = [evidence.why_not(name) for name in (said.higher, said.lower)]
    if any(reasons):
        note = "; ".join(filter(None, dict.fromkeys(reasons)))
        yield line | {"verdict": NOT_MEASURED, "note": note}
        return
    for layer in chosen(evidence.layers(), said.layer):
        values = [evidence.values(name, said.column, layer) for name in (said.higher, said.lower)]
        yield line | {"layer": layer} | verdict(said, *values)


def chosen(layers: list[str], which: str | None) -> list[str | None]:
    """The layers that a comparison is about; one None where it is about none."""
    if which is None:
        return [None]
    return {"each": layers, "first": layers[:1], "last": layers[-1:]}[which]


def verdict(said: Comparison, higher: Values, lower: Values) -> dict[str, Any]:
    """What two rows' values by image say of a comparison; accuracies in percent.

    Raises:
        UserError: the two are not of the same images.
    """
    if list(higher) != list(lower):
        raise UserError(f"claim: {said.higher!r} and {said.lower!r} are not of the same images")
    first, second = (np.array(list(values.values())) for values in (higher, lower))
    if said.column in COUNTED:
        return _exact(float(first[0]), float(second[0]))
    share = said.column in SHARES
    found = compare(first, second, skewed=not share)
    scale = 100 if share else 1
    numbers = {
        "ours_higher": first.mean(),
        "ours_lower": second.mean(),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
    }
    return {
        **{name: float(f"{scale * float(value):.4g}") for name, value in numbers.items()},
        "ours_factor": float(np.median(first / second)) if said.factor else None,
        "n": len(first),
        "wins": found.wins,
        "losses": found.losses,
        "verdict": SIDES[found.side],
    }


def _exact(higher: float, lower: float) -> dict[str, Any]:
    """The verdict on counted numbers, which have no interval."""
    side = int(higher > lower) - int(higher < lower)
    numbers = {"ours_higher": higher, "ours_lower": lower, "difference": higher - lower}
    return {name: float(f"{value:.4g}") for name, value in numbers.items()} | {
        "verdict": SIDES[side]
    }


def write_claims(claims: Iterable[Claim], evidence: Evidence, out: Path) -> None:
    """Write the verdicts on claims as a CSV."""
    import pandas as pd

    lines = judge(claims, evidence)
    whole = dict.fromkeys(("n", "wins", "losses"), "Int64")
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines, columns=list(COLUMNS)).astype(whole).to_csv(out, index=False)
