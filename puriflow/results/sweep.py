"""Sweeps: a chain for every combination of the roles that config/sweeps/NAME.yaml lists.

A sweep is a table whose rows are these combinations. So its stages are those of tables and of other
sweeps, each computed once, and its results are judged like theirs. They are written in long form,
one number a line, for pandas and plots. What is measured of a combination, and held against the
reference, is in `puriflow.results.swept`.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from puriflow.config import NONE, Config
from puriflow.errors import UserError, unknown
from puriflow.results.base import Device, Files, Model, Result, joined, notes, say_failures
from puriflow.results.columns import column, write_csv
from puriflow.results.measures import Stores
from puriflow.results.rows import OneThreat, Row, Threat, Threats, few_draws, listed
from puriflow.results.served import axis, distinct
from puriflow.results.swept import METRICS, compared, numbers_of, values_of
from puriflow.results.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

ROLES = ("dataset", "attack", "restorer", "purifier", "classifier", "evaluation")
COMPARED = (
    *("difference", "difference_low", "difference_high", "ratio", "ratio_low", "ratio_high"),
    "n_both",
)
COLUMNS = (*ROLES, "along", "line", "metric", "value", "low", "high", "n")
MOST = 10_000  # combinations of a sweep
REFERENCE = "reference"  # what the reference is called in place of a line
PANELS = ("standard", "robust", "cross_entropy_attacked")  # the metrics that are drawn

Say = Callable[[str, Any], str]  # what a name of a role is called
Names = Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)]


class Reference(Model):
    """Roles that another combination has in the place of one's own; it is compared with that."""

    dataset: str | None = None
    attack: OneThreat | None = None
    restorer: str | None = None
    purifier: str | None = None
    classifier: str | None = None
    evaluation: str | None = None

    def of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The combination with which one is compared."""
        return {role: getattr(self, role) or named for role, named in point.items()}


class Sweep(Result):
    """One or several names of each role; every combination is a chain."""

    folder: ClassVar[str] = "sweeps"

    dataset: Names
    attack: Threats
    restorer: Names = (NONE,)
    purifier: Names = (NONE,)
    classifier: Names
    evaluation: Names = ("single",)
    track: str | None = Field(None, description="the only one that `snakemake sweeps` has it of")
    along: str = Field(
        description="what lies along the picture: a role, or an option of one: purifier.t"
    )
    places: dict[str, float] = Field(
        {}, description="where names lie along it whose entries do not say it"
    )
    line: Names | None = Field(
        None,
        description="options of roles that are the same along a line of the picture: "
        "purifier.solver; default: the names of all that does not lie along it",
    )
    panels: tuple[str, ...] = Field(PANELS, min_length=1, description="the metrics that are drawn")
    reference: Reference | None = Field(
        None, description="other roles, with which every combination is compared"
    )
    features: str | None = Field(None, description="of one layer, for the content distance")

    @classmethod
    def load(cls, raw: object, where: str) -> Self:
        sweep = super().load(raw, where)
        for key, named in (("along", (sweep.along,)), ("line", sweep.line or ())):
            for role in (one.partition(".")[0] for one in named):
                if role not in ROLES:
                    raise unknown(f"role ({key} in {where})", role, ROLES)
        for one in sweep.line or ():
            if "." not in one:
                raise UserError(f"{where}: line takes options, such as purifier.t, and not {one!r}")
        for role in ROLES:
            named = getattr(sweep, role)
            if len(set(named)) < len(named):
                raise UserError(f"{where}: two of {role} are the same")
        combinations = math.prod(len(getattr(sweep, role)) for role in ROLES)
        if combinations > MOST:
            raise UserError(f"{where}: {combinations} combinations; at most {MOST} are a sweep")
        swept = [_name(role) for role in sweep.swept]
        for key, given, known in (
            ("name (places", sweep.places, swept),
            ("metric (panels", sweep.panels, METRICS),
        ):
            for name in given:
                if name not in known:
                    raise unknown(f"{key} in {where})", name, known)
        return sweep

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {form: f"sweeps/{name}.{form}" for form in ("csv", "png", "svg")}

    @cached_property
    def points(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Every combination, by the names in it, of the attack its threat; then the references."""
        swept = itertools.product(*(getattr(self, role) for role in ROLES))
        points = {names: dict(zip(ROLES, names, strict=True)) for names in swept}
        if self.reference is not None:
            for reference in map(self.reference.of, list(points.values())):
                points.setdefault(tuple(reference.values()), reference)
        return points

    @cached_property
    def table(self) -> Table:
        """The table whose rows are the combinations, in their order."""
        rows = tuple(
            Row.model_validate({**point, "attack": [point["attack"]], "method": str(i), "type": ""})
            for i, point in enumerate(self.points.values())
        )
        shared = {role: getattr(self, role)[0] for role in ("dataset", "classifier")}
        return Table(title=self.title, source=self.source, attack=self.attack, rows=rows, **shared)

    def items(self) -> tuple[Row, ...]:
        """The combinations as rows of a table."""
        return self.table.rows

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        yield from self.table.roles(row)
        if self.features is not None:
            yield "features", self.features

    def parts_of(self, row: Row) -> Iterator[tuple[str, str]]:
        return (named for named in self.roles(row) if named[0] == "features")

    def reads(self, track: Config, row: Row) -> Iterator[str]:
        return self.table.reads(track, row)

    def check(self, track: Config) -> None:
        """See `Result`: the features are of one layer."""
        if self.features is None or track.why_unavailable("features", self.features):
            return
        layers = track.part("features", self.features).value("layers")
        if len(layers) != 1:
            raise UserError(f"features {self.features} has {len(layers)} layers; name one of 1")

    def trigger(self, track: Config) -> dict[str, Any]:
        """See `Result`; how it is judged, and where the combinations lie in the picture."""
        along = {_label(role): self.place(track, role) for role in self.swept}
        lines = list(dict.fromkeys(self.line_of(track, point) for point in self.points.values()))
        own = super().trigger(track) | {"along": along, "lines": lines}
        return self.table.trigger(track) | own

    @property
    def computes(self) -> bool:
        """Whether it needs a device: for the content distance."""
        return self.features is not None

    @property
    def swept(self) -> tuple[str | Threat, ...]:
        """What lies along the picture, each once."""
        role = self.along.partition(".")[0]
        return tuple(dict.fromkeys(point[role] for point in self.points.values()))

    def place(self, track: Config, swept: str | Threat) -> float | str | None:
        """Where a role lies along the picture: a number (0 for `none`), or its name.

        None of one that the track cannot serve.
        """
        role, _, option = self.along.partition(".")
        if not option:
            return _label(swept)
        name = _name(swept)
        if name in self.places:
            return self.places[name]
        if name == NONE:
            return 0
        if track.why_unavailable(role, name):
            return None
        try:
            return float(Fraction(str(track.part(role, name).value(option))))  # 8/255 too
        except ValueError:
            raise UserError(
                f"sweep along {self.along}: {role} {name} has no number {option!r} in its entry; "
                "say in `places` where it lies"
            ) from None

    def line_of(self, track: Config, point: Mapping[str, Any]) -> str:
        """What the line of the picture is called that a combination belongs to.

        A reference that is not swept has a line of its own if it lies elsewhere along the picture.
        """
        return self.line_in(track, point, lambda role, named: _label(named))

    def line_in(self, track: Config, point: Mapping[str, Any], say: Say) -> str:
        """`line_of` in other words: `say` says a role's name."""
        is_swept = all(point[role] in getattr(self, role) for role in ROLES)
        if self.reference and getattr(self.reference, _role(self.along)) and not is_swept:
            return REFERENCE
        words = []
        for role in ROLES:
            shared = [one.partition(".")[2] for one in self.line or () if _role(one) == role]
            name = _name(point[role])
            if shared and name != NONE and track.why_unavailable(role, name) is None:
                values = [track.part(role, name).value(option) for option in shared]
                words.append(", ".join(str(v) for v in values if v is not None) or name)
            elif shared or (role != _role(self.along) and len(getattr(self, role)) > 1):
                words.append(say(role, point[role]))
        return ", ".join(words)

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        from puriflow.plots.style import save, styled, titled

        lines = list(self.lines(track, Stores(track, results), device))
        frame = write_csv(lines, self.columns(), files["csv"])
        robust = [line for line in lines if line.get("metric") == "robust"]
        chains = [line | {"chain": ", ".join(line[role] for role in ROLES)} for line in robust]
        say_failures(chains, "chain")
        with styled():
            drawing = self.draw(track, frame)
            titled(drawing, self.heading(track))
            save(drawing, [files["png"], files["svg"]])

    def columns(self) -> tuple[str, ...]:
        """The columns of the CSV."""
        return (*COLUMNS, *(COMPARED if self.reference else ()), "attack_failed", "note")

    def draw(self, track: Config, frame: "pd.DataFrame") -> "Drawing":
        """Draw the lines of the CSV, by what serves them; the reference from side to side."""
        from puriflow.plots import sweep

        def say(role: str, named: Any) -> str:
            return _in_words(track, role, named)

        lines = {self.line_of(track, p): self.line_in(track, p, say) for p in self.points.values()}
        places = {_label(named): say(_role(self.along), named) for named in self.swept}
        rows = frame.dropna(subset="metric")
        rows = rows.assign(line=rows["line"].map(distinct(lines)))
        if not rows["along"].map(lambda at: isinstance(at, float | int)).all():
            rows["along"] = rows["along"].map(distinct(places))
        panels = {name: column(name).axis for name in self.panels}
        return sweep.draw(rows, panels, axis(self.along), REFERENCE, ", ".join(self.headings))

    @property
    def headings(self) -> list[str]:
        """What tells the lines of the picture apart: roles, or options of one."""
        found = []
        for role in ROLES:
            options = [one.partition(".")[2] for one in self.line or () if _role(one) == role]
            if options:
                found.append(f"{', '.join(options)} of the {role}")
            elif role != _role(self.along) and len(getattr(self, role)) > 1:
                found.append(role)
        return found

    def lines(
        self, track: Config, stores: Stores, device: Device = None
    ) -> Iterator[dict[str, Any]]:
        """The lines of the CSV: each number of each combination, and how it compares.

        See `puriflow.results.swept` for the numbers. What an attack that failed says nothing of has
        an `attack_failed`, which says how. A combination that the track cannot serve has one line,
        with the reason.
        """
        table, rows = self.table, dict(zip(self.points, self.table.rows, strict=True))
        features = None if self.features is None else track.part("features", self.features)
        measure = cache(lambda row: values_of(table, track, row, stores, features, device))
        for names, point in self.points.items():
            said: dict[str, Any] = {role: _label(named) for role, named in point.items()}
            said |= {"along": self.place(track, point[_role(self.along)])}
            said |= {"line": self.line_of(track, point)}
            beside = self.reference.of(point) if self.reference else point
            row, reference = rows[names], rows[tuple(beside.values())]
            if reason := self.unavailable(track, row):
                yield said | {"note": reason}
                continue
            few = few_draws(track, row.attack or (), point["purifier"])
            said["note"] = joined(*notes(track, self.roles(row)), *few)
            values = measure(row)
            others = {}
            if reference is not row and self.unavailable(track, reference) is None:
                others = compared(values, measure(reference))
            for numbers in numbers_of(table, track, row, stores, values):
                yield said | numbers | others.get(numbers["metric"], {})


def _role(place: str) -> str:
    """The role of what may be an option of one."""
    return place.partition(".")[0]


def _name(role: str | Threat) -> str:
    """The name of a role in the configuration."""
    return role if isinstance(role, str) else role.attack


def _label(role: str | Threat) -> str:
    """The name of a role; of a threat, with what it goes through."""
    return role if isinstance(role, str) else role.words(role.attack, role.surrogate)


def _in_words(track: Config, role: str, named: str | Threat) -> str:
    """What serves a role, or what its attack is; where nothing does: `no restorer`."""
    if isinstance(named, Threat):
        return named.served_by(track)
    if named == NONE:
        return f"no {role}"
    return named if role == "evaluation" else track.served(role, named).by
