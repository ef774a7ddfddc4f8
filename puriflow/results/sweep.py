"""Sweeps: a chain for every combination of the roles that config/sweeps/NAME.yaml lists.

A sweep is a table whose rows are these combinations. So its stages are those of tables and of other
sweeps, each computed once, and its results are judged like theirs. They are written in long form,
one number a line, for pandas and plots.
"""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from puriflow.config import NONE, Config
from puriflow.errors import UserError, unknown
from puriflow.metrics.accuracy import accuracy
from puriflow.metrics.paired import student_interval
from puriflow.results.base import Device, Files, Result, joined, notes, say_failures
from puriflow.results.columns import column, write_csv
from puriflow.results.measures import UNDER_ATTACK, Stores
from puriflow.results.rows import Row, Threat, Threats
from puriflow.results.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

ROLES = ("dataset", "attack", "restorer", "purifier", "classifier", "evaluation")
COLUMNS = (*ROLES, "along", "metric", "value", "low", "high", "n", "attack_failed", "note")
MOST = 10_000  # combinations of a sweep
PANELS = ("standard", "robust", "cross_entropy_attacked")  # the metrics that are drawn


def _listed(given: object) -> object:
    """One name may be written without a list."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)


Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class Sweep(Result):
    """One or several names of each role; every combination is a chain."""

    folder: ClassVar[str] = "sweeps"

    dataset: Names
    attack: Threats
    restorer: Names = (NONE,)
    purifier: Names = (NONE,)
    classifier: Names
    evaluation: Names = ("single",)
    along: str = Field(
        description="what lies along the picture: a role, or an option of one: purifier.t"
    )

    @classmethod
    def load(cls, raw: object, where: str) -> Self:
        sweep = super().load(raw, where)
        role = sweep.along.partition(".")[0]
        if role not in ROLES:
            raise unknown(f"role (along in {where})", role, ROLES)
        for role in ROLES:
            named = getattr(sweep, role)
            if len(set(named)) < len(named):
                raise UserError(f"{where}: two of {role} are the same")
        combinations = math.prod(len(getattr(sweep, role)) for role in ROLES)
        if combinations > MOST:
            raise UserError(f"{where}: {combinations} combinations; at most {MOST} are a sweep")
        return sweep

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {form: f"sweeps/{name}.{form}" for form in ("csv", "png", "svg")}

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination: a name of each role, of the attack its threat."""
        for point in itertools.product(*(getattr(self, role) for role in ROLES)):
            yield dict(zip(ROLES, point, strict=True))

    @cached_property
    def table(self) -> Table:
        """The table whose rows are the combinations, in their order."""
        rows = tuple(
            Row.model_validate({**point, "attack": [point["attack"]], "method": str(i), "type": ""})
            for i, point in enumerate(self.points())
        )
        shared = {role: getattr(self, role)[0] for role in ("dataset", "classifier")}
        return Table(title=self.title, source=self.source, attack=self.attack, rows=rows, **shared)

    def items(self) -> tuple[Row, ...]:
        """The combinations as rows of a table."""
        return self.table.rows

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        return self.table.roles(row)

    def reads(self, track: Config, row: Row) -> Iterator[str]:
        return self.table.reads(track, row)

    def trigger(self, track: Config) -> dict[str, Any]:
        """See `Result`; and where the combinations lie along the picture."""
        along = {_label(role): self.place(track, role) for role in self.swept}
        return self.table.trigger(track) | {"along": along}

    @property
    def swept(self) -> tuple[str | Threat, ...]:
        """What lies along the picture."""
        return getattr(self, self.along.partition(".")[0])

    def place(self, track: Config, swept: str | Threat) -> float | str | None:
        """Where a role lies along the picture: a number (0 for `none`), or its name.

        None of one that the track cannot serve.
        """
        role, _, option = self.along.partition(".")
        if not option:
            return _label(swept)
        name = _name(swept)
        if name == NONE:
            return 0
        if track.why_unavailable(role, name):
            return None
        value = track.part(role, name).options.get(option)
        try:
            return float(Fraction(str(value)))  # 8/255 too
        except ValueError:
            raise UserError(
                f"sweep along {self.along}: {role} {name} has no number {option!r} in its entry"
            ) from None

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        from puriflow.plots.style import save, styled

        lines = list(self.lines(track, Stores(track, results)))
        frame = write_csv(lines, COLUMNS, files["csv"])
        robust = [line for line in lines if line.get("metric") == "robust"]
        chains = [line | {"chain": ", ".join(line[role] for role in ROLES)} for line in robust]
        say_failures(chains, "chain")
        with styled():
            save(self.draw(frame), [files["png"], files["svg"]])

    def draw(self, frame: "pd.DataFrame") -> "Drawing":
        """Draw the lines of the CSV: a line for each combination of what does not lie along it."""
        from puriflow.plots import sweep

        along = self.along.partition(".")[0]
        others = [role for role in ROLES if role != along and len(getattr(self, role)) > 1]
        panels = {name: column(name).axis for name in PANELS}
        return sweep.draw(frame.dropna(subset="metric"), panels, self.along, others)

    def lines(self, track: Config, stores: Stores) -> Iterator[dict[str, Any]]:
        """The lines of the CSV: each number of each combination.

        Accuracies are in percent with Wilson intervals, cross-entropies in nats with Student's,
        both of 95 %; mean squared errors are on [0, 1], of the images that are classified to the
        clean ones. What an attack that failed says nothing of has an `attack_failed`, which says
        how. A combination that the track cannot serve has one line, with the reason.
        """
        table, along = self.table, self.along.partition(".")[0]
        for point, row in zip(self.points(), table.rows, strict=True):
            names: dict[str, Any] = {role: _label(named) for role, named in point.items()}
            names["along"] = self.place(track, point[along])
            if reason := table.unavailable(track, row):
                yield names | {"note": reason}
                continue
            note = joined(*notes(track, table.roles(row)))
            for numbers in _numbers(table, track, row, stores):
                yield names | numbers | {"note": note}


def _numbers(table: Table, track: Config, row: Row, stores: Stores) -> Iterator[dict[str, Any]]:
    """What is measured of one combination, metric by metric."""
    chain, (under_attack,) = table.chains(track, row)
    clean, attacked = stores.measure(chain), stores.measure(under_attack)
    n, failed = len(clean), table.failed(track, row, stores).get(under_attack)
    for metric, right in table.outcomes(track, row, stores).items():
        value, low, high = (round(x, 2) for x in accuracy(right))
        numbers = {"metric": metric, "value": value, "low": low, "high": high, "n": n}
        yield numbers | {"attack_failed": failed if metric in UNDER_ATTACK else None}
    for images, measures in (("clean", clean), ("attacked", attacked)):
        low, high = student_interval(measures.metrics["cross_entropy"])
        bounds = {"low": round(low, 4), "high": round(high, 4)}
        for metric, value in measures.means().items():
            interval = bounds if metric == "cross_entropy" else {}
            numbers = {"metric": f"{metric}_{images}", "value": value, **interval, "n": n}
            void = images == "attacked" and metric in UNDER_ATTACK
            yield numbers | {"attack_failed": failed if void else None}
    if (seconds := attacked.seconds_per_image) is not None:
        yield {"metric": "seconds_per_image", "value": float(f"{seconds:.4g}"), "n": n}


def _name(role: str | Threat) -> str:
    """The name of a role in the configuration."""
    return role if isinstance(role, str) else role.attack


def _label(role: str | Threat) -> str:
    """The name of a role; of a threat, with what it goes through."""
    return role if isinstance(role, str) else role.words(role.attack, role.surrogate)
