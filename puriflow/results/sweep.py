"""Sweeps as data: a chain for every combination of the roles that config/sweeps/NAME.yaml lists.

A sweep is a table (puriflow.results.table) whose rows are these combinations. So its stages are
those of tables and of other sweeps, each computed once, and its results are judged like theirs.
They are written in long form, one number a line, for pandas and plots.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from puriflow.config import NONE, Config
from puriflow.errors import UserError, unknown
from puriflow.metrics.paired import student_interval
from puriflow.results import tables
from puriflow.results.measures import Measures, accuracy, measurer, outcomes
from puriflow.results.table import Roles, Row, Table, Threat, Threats

KINDS = ("dataset", "attack", "restorer", "purifier", "classifier", "evaluation")
COLUMNS = (*KINDS, "along", "metric", "value", "low", "high", "n", "note")


def _listed(given: object) -> object:
    """One name may be written without a list."""
    return given if isinstance(given, list | tuple) else [given]


Names = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class Sweep(BaseModel):
    """Roles by kind, one or several of each; every combination is a chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    dataset: Names
    attack: Threats
    restorer: Names = (NONE,)
    purifier: Names = (NONE,)
    classifier: Names
    evaluation: Names = ("single",)
    along: str = Field(
        description="what lies along the picture: a kind of role, or an option of one: purifier.t"
    )

    @property
    def varied(self) -> list[str]:
        """The kinds of which there are several."""
        return [kind for kind in KINDS if len(getattr(self, kind)) > 1]

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination: a name of each kind, of the attack its threat."""
        for point in itertools.product(*(getattr(self, kind) for kind in KINDS)):
            yield dict(zip(KINDS, point, strict=True))

    def table(self) -> Table:
        """The table whose rows are the combinations, in their order."""
        rows = [
            Row(method=str(i), type="", **{**point, "attack": [point["attack"]]})
            for i, point in enumerate(self.points())
        ]
        shared = {kind: getattr(self, kind)[0] for kind in ("dataset", "classifier")}
        return Table(title=self.title, source=self.source, attack=self.attack, rows=rows, **shared)


def load_sweep(path: str | Path) -> Sweep:
    """Read and check a sweep's file.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    sweep = tables.load(Sweep, path, "sweep")
    kind = sweep.along.partition(".")[0]
    if kind not in KINDS:
        raise unknown(f"kind of role (along in sweep {path})", kind, KINDS)
    for kind in KINDS:
        names = getattr(sweep, kind)
        if len(set(names)) < len(names):
            raise UserError(f"sweep {path}: two of {kind} are the same")
    return sweep


def served(sweep: Sweep, config: Config) -> Roles:
    """What a sweep says of the roles that it names: all that it needs of a configuration.

    Raises:
        UserError: a role is unknown, or lacks the option that the picture goes along.
    """
    roles = tables.served(sweep.table(), config)
    kind, _, option = sweep.along.partition(".")
    if not option:
        return roles
    for role in getattr(sweep, kind):
        name = name_of(role)
        if name == NONE or roles[f"{kind} {name}"]["unavailable"]:
            continue
        given = config.spec(f"{kind}s", name).get(option)
        try:
            roles[f"{kind} {name}"]["along"] = float(Fraction(str(given)))  # 8/255 too
        except ValueError:
            raise UserError(
                f"sweep along {sweep.along}: {kind} {name} has no number {option!r} in its entry"
            ) from None
    return roles


def place(sweep: Sweep, point: dict[str, Any], roles: Roles) -> float | str | None:
    """Where a combination lies along the picture: a number (0 for `none`), or a name."""
    kind, _, option = sweep.along.partition(".")
    if not option:
        return label(point[kind])
    name = name_of(point[kind])
    return 0 if name == NONE else roles[f"{kind} {name}"].get("along")


def name_of(role: str | Threat) -> str:
    """The name of a role in the configuration."""
    return role if isinstance(role, str) else role.attack


def label(role: str | Threat) -> str:
    """The name of a role; of a threat, with what it goes through."""
    if isinstance(role, str) or role.victim == "classifier":
        return name_of(role)
    through = f" with {role.surrogate}" if role.surrogate else ""
    return f"{role.attack} on the defence{through}"


def build_sweep(sweep: Sweep, roles: Roles, results: Path) -> list[dict[str, Any]]:
    """The lines of the CSV: each number of each combination.

    Accuracies are in percent with Wilson intervals, cross-entropies in nats with Student's, both
    of 95 %; mean squared errors are on [0, 1], of the images that are classified to the clean ones.
    A combination that the track cannot serve has one line, with the reason.
    """
    table = sweep.table()
    _, measured = measurer(roles, results)
    lines: list[dict[str, Any]] = []
    for point, row in zip(sweep.points(), table.rows, strict=True):
        names = {kind: label(role) for kind, role in point.items()}
        names["along"] = place(sweep, point, roles)
        if reason := tables.unavailable(table, row, roles):
            lines.append(names | {"note": reason})
            continue
        clean, (attacked,) = tables.chains(table, row, roles)
        notes = (roles[f"{kind} {name}"]["note"] for kind, name in tables.named(table, row))
        note = "; ".join(filter(None, dict.fromkeys(notes)))
        for numbers in _numbers(table, row, roles, measured(clean), measured(attacked)):
            lines.append(names | numbers | {"note": note})
    return lines


def _numbers(
    table: Table, row: Row, roles: Roles, clean: Measures, attacked: Measures
) -> Iterator[dict[str, Any]]:
    """What is measured of one combination, metric by metric."""
    n = len(clean.losses)
    for metric, right in outcomes(table, row, roles, clean, [attacked]).items():
        value, low, high = (round(x, 2) for x in accuracy(right))
        yield {"metric": metric, "value": value, "low": low, "high": high, "n": n}
    for images, found in (("clean", clean), ("attacked", attacked)):
        low, high = student_interval(found.losses)
        bounds = {"low": round(low, 4), "high": round(high, 4)}
        value = round(found.cross_entropy, 4)
        yield {"metric": f"cross_entropy_{images}", "value": value, **bounds, "n": n}
        if found.mse is not None:
            yield {"metric": f"mse_{images}", "value": float(f"{found.mse:.4g}"), "n": n}
    if (seconds := attacked.seconds_per_image) is not None:
        yield {"metric": "seconds_per_image", "value": float(f"{seconds:.4g}"), "n": n}
