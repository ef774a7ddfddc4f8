"""Figures of the paper: lines are chains of roles, config/figures/NAME.yaml lists them.

A figure's kind says what is measured of its lines and how that is drawn; each kind is a module of
this package whose class says its `kind`. What a figure computes itself (feature maps, Grad-CAM, the
states of a purification), it computes for the first images of the data set, as many as it says.
Everything else comes from the stores of the stages. A line that the track cannot serve says why,
and has no numbers.
"""

import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from puriflow.chain import Chain
from puriflow.config import NONE, Config, validated
from puriflow.errors import UserError, unknown
from puriflow.results.base import Device, Files, Judged, Model, joined, notes, shards_of
from puriflow.results.columns import write_csv
from puriflow.results.documents import Block
from puriflow.results.finding import classes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    from puriflow.results.figures.sources import Sources

# What serves a line's roles: the first columns of every figure's CSV, before its kind's own.
ROLES = ("attack", "restorer", "purifier", "dataset", "classifier", "features")
MOST = 10_000  # images that a figure computes something of
DIGITS = 6  # of the numbers in its CSVs


class Line(Model):
    """One chain of a figure: its attack, where it is not the figure's, and its defence."""

    label: str
    attack: str | None = Field(None, description="`none` for clean images")
    restorer: str = NONE
    purifier: str = NONE
    panels: str | None = Field(None, description="letters of its panels; default: all")


class Built(NamedTuple):
    """What a kind makes of a figure.

    Attributes:
        rows: of the CSV, by column.
        values: of each image, by the columns of `EVIDENCE`.
        drawing: the picture.
    """

    rows: list[dict[str, Any]]
    values: list[dict[str, Any]]
    drawing: "Drawing"


class Figure(Judged):
    """What all kinds share: the roles, the lines, and what the report says."""

    folder: ClassVar[str] = "figures"
    own_columns: ClassVar[tuple[str, ...]]  # of the CSV, behind `ROLES`
    computed_roles: ClassVar[tuple[str, ...]] = ()  # whose parts it computes with

    kind: str
    claim: str = Field(description="what the paper says of it")
    how: str = Field(description="what is drawn here")
    dataset: str
    classifier: str = Field(description="the attack's victim, and whose answers are drawn")
    attack: str
    lines: tuple[Line, ...] = Field(min_length=1, description="their labels differ")
    count: int | None = Field(
        None, ge=1, le=MOST, description="images at most, the first; without, all of the data set"
    )

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        labels = [line.label for line in self.lines]
        if len(set(labels)) < len(labels):
            raise ValueError("two lines have the same label")
        return self

    @classmethod
    def load(cls, raw: object, where: str) -> Self:
        """Check what a file says, by the model of its kind."""
        kinds = classes(__package__, "kind")
        kind = raw.get("kind") if isinstance(raw, Mapping) else None
        if kind is None:
            raise UserError(f"{where}: no kind given; known are {', '.join(kinds)}")
        if not isinstance(kind, str) or kind not in kinds:
            raise unknown(f"kind of figure (in {where})", str(kind), kinds)
        module, name = kinds[kind]
        return validated(getattr(importlib.import_module(module), name), raw, where)

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        pictures = {form: f"{name}.{form}" for form in ("csv", "png", "svg")}
        return pictures | {"measures": f"measures/{name}.csv"}

    def items(self) -> tuple[Line, ...]:
        return self.lines

    def chain(self, line: Line) -> Chain:
        """The chain of a line, up to its images."""
        attack = self.attack if line.attack is None else line.attack
        victim = NONE if attack == NONE else self.classifier
        return Chain(self.dataset, attack, victim, line.restorer, line.purifier)

    def roles(self, line: Line) -> Iterator[tuple[str, str]]:
        named = {"dataset": self.dataset, "classifier": self.classifier}
        named["attack"] = self.chain(line).attack
        named["features"] = getattr(self, "features", NONE)
        named |= {"restorer": line.restorer, "purifier": line.purifier}
        return ((role, name) for role, name in named.items() if name != NONE)

    def parts_of(self, line: Line) -> Iterator[tuple[str, str]]:
        return ((role, name) for role, name in self.roles(line) if role in self.computed_roles)

    def stages(self, line: Line) -> list[tuple[Chain, str]]:
        """Chain and stage of all stores that a line reads: the clean images and its own."""
        chain = self.chain(line)
        return [(chain, "images"), (chain, chain.before("classify"))]

    def shards(self, track: Config) -> list[str]:
        """Names of the shards that it reads: the first ones, with as many images as it takes.

        Where the track does not say how many images there are, it is the first shard.
        """
        shards, dataset = shards_of(track, self.dataset), track.dataset(self.dataset)
        if self.count is None:
            return shards
        each = self.count if dataset.most is None else dataset.most // dataset.shards
        return shards[: math.ceil(self.count / each)]

    def reads(self, track: Config, line: Line) -> Iterator[str]:
        shards = self.shards(track)
        return (chain.folder(s, shard) for chain, s in self.stages(line) for shard in shards)

    def names(self, line: Line) -> list[str]:
        """What a line is called among the values of its images."""
        return [line.label]

    def lines_of_claims(self) -> list[str]:
        """See `Judged`."""
        return [name for line in self.lines for name in self.names(line)]

    def described(self, track: Config, line: Line) -> dict[str, Any]:
        """The cells of a line that is served: its label, what serves its roles, and the notes."""
        roles = list(self.roles(line))
        names = dict.fromkeys(("attack", "restorer", "purifier"), NONE)
        names |= {role: track.served(role, name).by for role, name in roles}
        return {"line": line.label, **names, "note": joined(*notes(track, roles))}

    def compute(self, sources: "Sources") -> Built:
        """Measure and draw the lines that are served."""
        raise NotImplementedError

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        from puriflow.plots.style import message, save, styled, titled
        from puriflow.results.figures.sources import Sources

        with styled():
            if self.served(track):
                chosen = (self.dataset, self.shards(track), self.count)
                sources = Sources(track, results, device, *chosen)
                rows, values, drawing = self.compute(sources)
            else:
                rows, values, drawing = [], [], message("not served by this track: see the CSV")
            for line in self.lines:
                if (reason := self.unavailable(track, line)) is not None:
                    rows.append({"line": line.label, "note": reason})
                    values += [{"line": name, "note": reason} for name in self.names(line)]
            columns = ("line", *ROLES, *self.own_columns)
            filled = [name for name in columns if any(name in row for row in rows)]
            write_csv(rows, filled, files["csv"], DIGITS)
            write_csv(values, self.measures, files["measures"], DIGITS)
            titled(drawing, self.heading(track))
            save(drawing, [files["png"], files["svg"]])

    def columns(self) -> tuple[str, ...]:
        """All that even a figure without a line that is served has."""
        return ("line", "note")

    def page(self, rows: "pd.DataFrame") -> list[Block]:
        """See `Judged`: the paper's words, and what is drawn here by what serves its roles."""
        roles = ("dataset", "classifier", "features", "attack", "restorer", "purifier")
        served = {role: sorted(set(rows[role].dropna()) - {NONE}) for role in roles if role in rows}
        by = "; ".join(f"{role} {', '.join(names)}" for role, names in served.items() if names)
        here = ". ".join([f"Served by {by}", *dict.fromkeys(rows["note"].dropna())])
        return [f"The paper: {self.claim}", f"Here: {self.how} {here}."]


class Computed(Figure):
    """A figure that computes something itself."""

    count: int = Field(ge=1, le=MOST, description="images at most, the first of the data set")

    @property
    def computes(self) -> bool:
        return True


class Compared(Computed):
    """A figure whose lines are compared with one of them."""

    reference: str = Field(description="label of the line that the others are compared with")

    @model_validator(mode="after")
    def _known(self) -> Self:
        labels = [line.label for line in self.lines]
        if self.reference not in labels:
            raise ValueError(str(unknown("line (reference)", self.reference, labels)))
        return self

    def unavailable(self, track: Config, line: Line) -> str | None:
        """Why this track cannot serve a line, or the one that it is compared with."""
        for one in self.lines:
            if one.label in (line.label, self.reference) and (
                reason := super().unavailable(track, one)
            ):
                return reason
        return None


class Shown(Compared):
    """A figure that shows images."""

    shown: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, max_length=100, description="places of those that are shown"
    )

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if max(self.shown) >= self.count:
            raise ValueError(f"shown {max(self.shown)} is not one of its {self.count} images")
        return self

    def check(self, track: Config) -> None:
        """See `Result`: the images that it shows are there, as far as the track says it."""
        if (most := track.dataset(self.dataset).most) is not None:
            self.check_shown(most)

    def check_shown(self, count: int) -> None:
        """Check that the images that it shows are among so many."""
        if (last := max(self.shown)) >= count:
            raise UserError(
                f"{self.source} shows image {last}, counted from 0, but {count} of data set "
                f"{self.dataset} are there"
            )
