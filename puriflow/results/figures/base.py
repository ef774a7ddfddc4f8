"""Figures of the paper as data: lines are chains of roles, config/figures/NAME.yaml lists them.

A figure's kind says what is measured of its lines and how that is drawn; each kind is a module of
this package with a function `build`. What a figure computes itself (feature maps, Grad-CAM, the
states of a purification), it computes for the first images of the data set's first shard.
Everything else comes from the stores of the stages. A line that the track cannot serve says why,
and has no numbers. No torch is imported here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from puriflow.chain import Chain, shard_names
from puriflow.config import NONE, Config
from puriflow.errors import UserError, unknown
from puriflow.results.table import load, serving

FAMILIES = {
    "dataset": "datasets",
    "attack": "attacks",
    "restorer": "restorers",
    "purifier": "purifiers",
    "classifier": "classifiers",
    "features": "features",
}
# Of `kind name`: what serves a role (see `tables.serving`); for one that the figure computes with,
# its specification as well. Of `run`, the seed of the track.
Named = dict[str, dict[str, Any]]
Definition = Literal["eq7", "johnson", "gatys"]  # of content distance; see metrics/content.py


class Line(BaseModel):
    """One chain of a figure: its attack, where it is not the figure's, and its defence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    attack: str | None = Field(None, description="`none` for clean images")
    restorer: str = NONE
    purifier: str = NONE
    panels: str | None = Field(None, description="letters of its panels; default: all")


class Figure(BaseModel):
    """What all kinds share: the roles, the lines, and what the report says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    computes: ClassVar[tuple[str, ...]] = ()  # kinds of the roles that it computes with

    title: str
    source: str
    claim: str = Field(description="what the paper says of it")
    how: str = Field(description="what is drawn here")
    dataset: str
    classifier: str = Field(description="the attack's victim, and whose answers are drawn")
    attack: str
    lines: tuple[Line, ...] = Field(min_length=1, description="their labels differ")
    count: int | None = Field(
        None, ge=1, description="images, of the first shard; without, all of the data set"
    )

    def chain(self, line: Line) -> Chain:
        """The chain of a line, up to its images."""
        attack = self.attack if line.attack is None else line.attack
        victim = NONE if attack == NONE else self.classifier
        return Chain(self.dataset, attack, victim, line.restorer, line.purifier)

    def reads(self, line: Line) -> list[tuple[Chain, str]]:
        """Chain and stage of all stores that a line reads: the clean images and its own."""
        chain = self.chain(line)
        return [(chain, "images"), (chain, chain.before("classify"))]

    def names(self, line: Line) -> list[str]:
        """What a line is called among the values of its images."""
        return [line.label]

    def roles(self, line: Line) -> dict[str, str]:
        """The role of each kind that a line's numbers need, without `none`."""
        named = self.model_dump(include={*FAMILIES}) | {
            "attack": self.chain(line).attack,
            "restorer": line.restorer,
            "purifier": line.purifier,
        }
        return {kind: name for kind, name in named.items() if name != NONE}


class Computed(Figure):
    """A figure that computes something itself."""

    count: int = Field(ge=1, description="images, the first of the data set's first shard")


class Shown(Computed):
    """A figure that shows images."""

    shown: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="places, among its images, of those that are shown"
    )

    @model_validator(mode="after")
    def _measured(self) -> "Shown":
        if max(self.shown) >= self.count:
            raise ValueError(f"shown {max(self.shown)} is not one of its {self.count} images")
        return self


class Attention(Shown):
    """Images with Grad-CAM and a classifier's answers (Figure 2)."""

    computes = ("classifier",)

    kind: Literal["attention"]
    target: Literal["label", "predicted"] = Field(description="the class that Grad-CAM explains")
    reference: str = Field(description="label of the line that the others are compared with")


class Maps(Shown):
    """Images and feature maps of one layer (Figure 3)."""

    computes = ("features",)

    kind: Literal["maps"]
    features: str
    definition: Definition
    reference: str = Field(description="label of the line whose content distance is 1")


class Content(Computed):
    """Normalised content distance by layer (Figure 4)."""

    computes = ("features",)

    kind: Literal["content"]
    features: str
    definition: Definition
    reference: str = Field(description="label of the line whose content distance is 1")
    panels: dict[str, str] = Field(min_length=1, description="letters and titles")

    @model_validator(mode="after")
    def _drawn(self) -> "Content":
        for line in self.lines:
            if line.panels is not None and not set(line.panels) <= set(self.panels):
                raise ValueError(f"line {line.label!r} is in panels {line.panels!r}, not all there")
        return self


class Transition(Computed):
    """Content distance against cross-entropy on the way through a purification (Figure 5)."""

    computes = ("features", "classifier", "purifier")

    kind: Literal["transition"]
    features: str
    definition: Definition

    @model_validator(mode="after")
    def _attacked(self) -> "Transition":
        for line in self.lines:
            if self.chain(line).attack == NONE:
                raise ValueError(f"line {line.label!r} has no attack, with which its way begins")
        return self

    def reads(self, line: Line) -> list[tuple[Chain, str]]:
        """Clean, attacked and restored images; the purification is computed here."""
        chain = replace(self.chain(line), purifier=NONE)
        return [(chain, stage) for stage in chain.stages()]

    def names(self, line: Line) -> list[str]:
        """`LABEL, STATE` for each state of its way, but for the steps back."""
        restored = ["restored"] if line.restorer != NONE else []
        purified = ["diffused", "purified"] if line.purifier != NONE else []
        return [f"{line.label}, {state}" for state in ("attacked", *restored, *purified)]


class Rounds(Figure):
    """Errors, cross-entropy and accuracies of restorers (Figure 6)."""

    kind: Literal["rounds"]
    count: None = Field(None, description="all images of the data set are measured")

    def both(self, line: Line) -> tuple[Chain, Chain]:
        """A line's chains of clean and of attacked images, to their logits."""
        attacked = replace(self.chain(line), classifier=self.classifier)
        return replace(attacked, attack=NONE, victim=NONE), attacked

    def reads(self, line: Line) -> list[tuple[Chain, str]]:
        """All stages of both chains."""
        return [(chain, stage) for chain in self.both(line) for stage in chain.stages()]


class AnyFigure(RootModel):
    """A figure, by its `kind`."""

    root: Annotated[Attention | Maps | Content | Transition | Rounds, Field(discriminator="kind")]


def load_figure(path: str | Path) -> Figure:
    """Read and check a figure's file.

    Raises:
        UserError: it is missing, or says something that is not known.
    """
    figure = load(AnyFigure, path, "figure").root
    labels = [line.label for line in figure.lines]
    if len(set(labels)) < len(labels):
        raise UserError(f"figure {path}: two lines have the same label")
    if (label := getattr(figure, "reference", None)) not in (None, *labels):
        raise unknown(f"line (reference in figure {path})", label, labels)
    return figure


def served(figure: Figure, config: Config) -> Named:
    """All that a figure needs of a configuration.

    Raises:
        UserError: it names a role that the configuration does not know.
    """
    named: Named = {"run": {"seed": config.seed}}
    for line in figure.lines:
        for kind, name in figure.roles(line).items():
            role = serving(config, FAMILIES[kind], name)
            if kind in figure.computes and role["unavailable"] is None:
                role["spec"] = config.spec(FAMILIES[kind], name)
            named[f"{kind} {name}"] = role
    return named


def unavailable(figure: Figure, line: Line, named: Named) -> str | None:
    """Why this track cannot serve a line, or the one that it is compared with; None if it can."""
    reference = getattr(figure, "reference", None)
    for one in figure.lines:
        if one.label in (line.label, reference):
            for kind, name in figure.roles(one).items():
                if reason := named[f"{kind} {name}"]["unavailable"]:
                    return f"{kind} {name}: {reason}"
    return None


def specs_of(named: Named) -> dict[str, dict[str, Any]]:
    """The specification of every part that a figure computes with, by `kind name`."""
    return {key: role["spec"] for key, role in named.items() if "spec" in role}


def shards_of(figure: Figure, named: Named) -> list[str]:
    """Names of the shards that a figure reads: of a number of images, the first."""
    names = shard_names(named[f"dataset {figure.dataset}"]["shards"])
    return names if figure.count is None else names[:1]


def needed(figure: Figure, named: Named) -> list[str]:
    """Folders, below the results, of all stores that a figure reads, once each."""
    folders = (
        chain.folder(stage, shard)
        for line in figure.lines
        if unavailable(figure, line, named) is None
        for chain, stage in figure.reads(line)
        for shard in shards_of(figure, named)
    )
    return list(dict.fromkeys(folders))
