"""What an audit says: checks with their verdicts, as a table, as JSON, and how numbers become them.

A check looks for a sign that an evaluation is wrong. `failed`: the sign is there, beyond chance.
`passed`: it is not there, which is no proof that nothing else is wrong. `not decidable`: it is
there but may be chance, or the check cannot be made. No torch is imported here, so that who reads
an audit needs none.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from puriflow.errors import UserError, unknown
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.paired import compare

Verdict = Literal["passed", "failed", "not decidable"]
Interval = tuple[float, float]
TOLERATED = 0.05  # of an accuracy or of images: what no verdict is about
FOUND = 0.95  # of planted answers that an attack has to find (Zimmermann et al. 2022)
KNOWN = 0.9  # how often a planted answer must be there under fresh noise, to say anything


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: of the check.
        verdict: see above.
        value: what was measured; None if nothing could be.
        interval: of 95 %; None where the value has no chance in it.
        evidence: what the value is, in a sentence.
        cure: what to do about it; empty if it passed.
    """

    name: str
    verdict: Verdict
    value: float | None
    interval: Interval | None
    evidence: str
    cure: str = ""


class Undecidable(Exception):  # noqa: N818
    """A check cannot be made: why, and what would make it possible."""

    def __init__(self, why: str, cure: str = ""):
        super().__init__(why)
        self.cure = cure


@dataclass(frozen=True)
class Audit:
    """The checks of one evaluation; printed it is a table.

    Attributes:
        attack: the name of the attack, or of its class.
        images: how many were attacked.
        draws: fresh answers of the defence by which an image was judged.
        accuracy: shares in [0, 1] of right answers, `clean` and `robust`, each with its interval.
        checks: in the order of the tables.
        curves: `loss`: paths of the attack's loss (images, steps); `eps`: accuracies against eps;
            `eot`: cosines between the means of two halves of twice so many gradients.
    """

    attack: str
    images: int
    draws: int
    accuracy: Mapping[str, tuple[float, float, float] | None]
    checks: tuple[Check, ...]
    curves: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.verdict == "failed"]

    def __getitem__(self, name: str) -> Check:
        """The check of a name; a UserError if there is none."""
        known = {check.name: check for check in self.checks}
        if name not in known:
            raise unknown("check", name, known)
        return known[name]

    def cells(self) -> dict[str, Any]:
        """What a row of a table says of its audit: `attack_asr` in percent, and counts of checks.

        The rate is of the binarization test where it could be decided, as for deterministic
        victims, else of the planted pattern; None where neither could.
        """
        planted = (check for check in self.checks if check.name in ("binarization", "pattern"))
        found = [c.value for c in planted if c.verdict != "not decidable" and c.value is not None]
        counts = Counter(check.verdict for check in self.checks)
        asr = round(100 * found[0], 2) if found else None
        return {"attack_asr": asr, "failed": counts["failed"], "undecided": counts["not decidable"]}

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(_plain(asdict(self)), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """An audit from what `to_json` made of it.

        Raises:
            UserError: it is something else.
        """
        try:
            said = json.loads(text)
            checks = tuple(Check(**check) for check in said.pop("checks"))
            checks = tuple(replace(c, interval=c.interval and tuple(c.interval)) for c in checks)
            return cls(
                checks=checks, **{f.name: said[f.name] for f in fields(cls) if f.name in said}
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"this is no audit: {' '.join(str(error).split())}") from None

    def __str__(self) -> str:
        rows = [("check", "verdict", "value", "evidence")]
        rows += [(c.name, c.verdict, _number(c), c.evidence) for c in self.checks]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True))])
            + f"  {row[3]}"
            for row in rows
        ]
        counts = Counter(check.verdict for check in self.checks)
        said = ", ".join(f"{counts[v]} {v}" for v in get_args(Verdict))
        cures = [f"cure of {c.name}: {c.cure}" for c in self.checks if c.cure]
        shares = "; ".join(
            f"{name} accuracy {100 * a[0]:.1f} % ({100 * a[1]:.1f} to {100 * a[2]:.1f})"
            for name, a in self.accuracy.items()
            if a is not None
        )
        head = f"{self.attack}, {self.images} images, answers of {self.draws} each: {shares}"
        return "\n".join([head, "", *lines, "", *cures, f"{said}"])


def _number(check: Check) -> str:
    if check.value is None:
        return "-"
    if check.interval is None:
        return f"{check.value:.3g}"
    low, high = check.interval
    return f"{check.value:.3g} ({low:.3g} to {high:.3g})"


def _plain(value: Any) -> Any:
    """Data that JSON has a word for: numbers that are none become null."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.6g}")
    return value


def decided(name: str, decide: Callable[[], Check]) -> Check:
    """A check, or why it cannot be made."""
    try:
        return decide()
    except Undecidable as why:
        return Check(name, "not decidable", None, None, str(why), why.cure)


# How numbers become verdicts


def settled(check: Check, *, bad: bool, beyond_chance: bool) -> Check:
    """A check with its verdict: whether its sign is there, and whether that may be chance."""
    if not bad:
        return replace(check, verdict="passed", cure="")
    if beyond_chance:
        return replace(check, verdict="failed")
    return replace(
        check, verdict="not decidable", cure=f"more images, to tell it from chance; {check.cure}"
    )


def exact(name: str, value: float, most: float, evidence: str, cure: str) -> Check:
    """Of a value in which there is no chance, and which must not be above another one."""
    check = Check(name, "passed", float(value), None, evidence, cure)
    return settled(check, bad=not value <= most, beyond_chance=True)


def no_stronger(name: str, own: np.ndarray, other: np.ndarray, evidence: str, cure: str) -> Check:
    """Another attack, or none, must not leave fewer answers right than the evaluation's own.

    Args:
        name: of the check.
        own: how right the defence is about each image under the attack, (n,) in [0, 1].
        other: the same under the other one.
        evidence: what the other one is; both accuracies are said behind it.
        cure: see `Check`.
    """
    paired = compare(own, other)
    low, high = (float(bound) for bound in paired.interval)
    said = f"{evidence}: {100 * other.mean():.1f} % right, {100 * own.mean():.1f} under the attack"
    check = Check(name, "passed", paired.difference, (low, high), said, cure)
    return settled(check, bad=paired.difference > TOLERATED, beyond_chance=low > 0)


def few(name: str, hits: float, count: int, most: float, evidence: str, cure: str) -> Check:
    """A share of images that must not be above another one."""
    interval = wilson(hits, count)
    check = Check(name, "passed", hits / count, interval, evidence, cure)
    return settled(check, bad=hits / count > most, beyond_chance=interval[0] > most)


def found(name: str, rates: np.ndarray, easy: float, evidence: str, cure: str) -> Check:
    """Planted answers that an attack has to find.

    Args:
        name: of the check.
        rates: how often fresh draws of each attacked image give the planted answer, (n,).
        easy: share of images for which chance found it.
        evidence: see `Check`.
        cure: see `Check`.
    """
    asr, interval = float(rates.mean()), wilson(float(rates.sum()), len(rates))
    check = Check(name, "passed", asr, interval, evidence, cure)
    if asr >= FOUND and easy >= 0.5:
        return replace(check, verdict="not decidable", cure="none: chance finds it as well")
    return settled(check, bad=asr < FOUND, beyond_chance=interval[1] < FOUND)
