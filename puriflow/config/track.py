"""A track: what serves each role. The models here are the single source of its schema.

The options of a part are checked against its `build` (puriflow.registry).
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, model_validator

from puriflow.errors import UserError, unknown
from puriflow.metrics.rules import OfAnswers, Rule
from puriflow.options import MOST_SEED, Precision, shown
from puriflow.registry import (
    FAMILIES,
    INNER,
    NONE,
    Part,
    Parts,
    Weights,
    check,
    family_of,
    kind_named,
    split,
)
from puriflow.zoo.catalogue import PREFIX, Zoo

BEHIND_RESULTS = False
TRAINABLE = ("restorers", "networks", "classifiers", "purifiers")  # sections
NAME = r"[a-z0-9][a-z0-9-]*"  # of a role: a part of paths, and a word of commands
Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=60)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]


def one_line(text: str) -> str:
    """A text of a track or a result, which goes into tables, pages and pictures.

    Raises:
        ValueError: it has a newline or another control character.
    """
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise ValueError("must be one line without control characters (in YAML: >- folds lines)")
    return text


Text = Annotated[str, AfterValidator(one_line)]


class Model(BaseModel, frozen=True, allow_inf_nan=False):
    """What a file says: every number is finite."""


class Role(Model, extra="allow"):
    """What serves a role: a kind with its options, or the reason why this track has none."""

    kind: str | None = Field(None, description="name of the part's module")
    served_by: Text | None = Field(
        None, description="name in tables; default: the zoo entry's, else the role's own"
    )
    zoo: str | None = Field(None, description="zoo entry that gives kind, options and weights")
    unavailable: Text | None = Field(None, description="why this track cannot serve the role")
    note: Text = Field("", description="what this track does otherwise; goes into tables")

    @model_validator(mode="after")
    def _says_one_part(self) -> "Role":
        if [self.kind, self.zoo, self.unavailable].count(None) != 2:
            raise ValueError("give a kind, or a zoo entry, or the reason why it is unavailable")
        for option in INNER:
            named = (self.model_extra or {}).get(option)
            if not isinstance(named, str | None):
                section = family_of(INNER[option]).section
                raise ValueError(f"{option} is {named!r}; give the name of an entry of `{section}`")
        return self


class Dataset(Role):
    """A data set, or a fixed random subset of it."""

    shards: int = Field(
        1, ge=1, le=10_000, description="jobs that each stage of this data set is cut into"
    )
    subset: int | None = Field(
        None, ge=1, le=2_000_000, description="how many images are drawn; default: all"
    )
    subset_seed: Seed | Annotated[list[Seed], Field(min_length=1, max_length=100)] = Field(
        0, description="of the draw; of several seeds, the union of as many draws"
    )

    @model_validator(mode="after")
    def _an_image_a_shard(self) -> "Dataset":
        if (most := self.most) is not None and self.shards > most:
            raise ValueError(f"{self.shards} shards of {most} images: some would be empty")
        return self

    @property
    def most(self) -> int | None:
        """How many images there are at most, as far as the track says it."""
        return None if self.subset is None else self.subset * len(self.subset_seeds)

    @property
    def subset_seeds(self) -> list[int]:
        """The seeds as a list."""
        seeds = self.subset_seed
        return [seeds] if isinstance(seeds, int) else seeds


class Purifier(Role):
    """A purifier."""

    recommended_eot_iter: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="draws that an attack's exact gradient of it takes, as results/eot/ finds: "
        "tables say where there are fewer",
    )


class Served(NamedTuple):
    """What results say of a role."""

    by: str  # the name of what serves it
    unavailable: str | None  # why this track cannot serve it; None if it can
    note: str  # what this track does otherwise
    recommended_eot_iter: int | None  # of a purifier


MOST_DRAWS = 10_000  # of an evaluation


class Evaluation(Model, extra="forbid"):
    """How a defence is judged on attacked (and on clean) images."""

    n_draws: int = Field(1, ge=1, le=MOST_DRAWS, description="fresh purifications of every image")
    rule: Rule = Field("first", description="what makes an image right")
    clean: OfAnswers | None = Field(
        None, description="the same for clean images, if another; of `attack` and `others`: average"
    )
    minimum: Literal["image", "attack"] = Field(
        "image", description="of several attacks: the worst for each image, or the lowest accuracy"
    )

    @model_validator(mode="after")
    def _enough(self) -> "Evaluation":
        if "others" in (self.rule, self.clean) and self.n_draws < 2:
            raise ValueError("the rule `others` needs 2 or more draws")
        return self


class Certification(Model, extra="forbid"):
    """How many draws certify an image by randomised smoothing; the defaults are Cohen et al.'s."""

    n0: int = Field(100, ge=1, le=10_000_000, description="draws that choose the class")
    n: int = Field(100_000, ge=1, le=10_000_000, description="draws that bound its chance")
    alpha: float = Field(0.001, gt=0, lt=1, description="chance that a certificate is wrong")


class Compute(Model, extra="forbid"):
    """How a track computes."""

    precision: Precision = Field(
        "float32",
        description="of convolutions and products within diffusion networks, of whose entries none "
        "says its own",
    )
    deterministic: bool = Field(
        True,
        description="whether a GPU computes with the same kernels each time, so that a result "
        "comes out alike; else with the fastest",
    )
    compile: bool = Field(
        False,
        description="whether a GPU runs diffusion networks through torch.compile, minutes once a "
        "job; not for purifiers that are gradients themselves",
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="images computed at once and kept together; default: as many as fit the GPU, "
        "up to 32; a CPU computes image by image. It is halved where memory runs out",
    )
    longest: int = Field(
        1440,
        ge=5,
        le=1_000_000,
        description="minutes for which a job asks a cluster at most; one that takes longer is "
        "ended, and goes on in its next try from what it has kept",
    )


class Training(Model, extra="forbid"):
    """How the track's own networks are trained."""

    images: dict[Name, Text | None] = Field({}, description="folders that recipes name")
    held_out: int = Field(50, ge=1, le=1_000_000, description="images kept for measuring")
    restorers: dict[Name, dict[str, Any]] = Field({}, description="recipes by restorer")
    networks: dict[Name, dict[str, Any]] = Field({}, description="recipes by network")
    classifiers: dict[Name, dict[str, Any]] = Field({}, description="recipes by classifier")
    purifiers: dict[Name, dict[str, Any]] = Field({}, description="recipes by purifier")

    @model_validator(mode="after")
    def _names(self) -> "Training":
        for section in TRAINABLE:
            for name, recipe in getattr(self, section).items():
                for key in ("start", "images"):
                    if not isinstance(recipe.get(key), str | None):
                        raise ValueError(f"{section}.{name}: {key} is {recipe[key]!r}; give a name")
        return self

    def recipe(self, section: str, name: str) -> dict[str, Any]:
        """The recipe of a part of a section."""
        recipes = getattr(self, section)
        if name not in recipes:
            raise unknown(f"recipe of training.{section}", name, recipes)
        return recipes[name]


class Config(Model, extra="forbid"):
    """A track: the parts behind every role."""

    track: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100, description="name of the track"
    )
    seed: Seed = Field(0, description="of all random draws")
    datasets: dict[Name, Dataset]
    classifiers: dict[Name, Role]
    attacks: dict[Name, Role]
    restorers: dict[Name, Role]
    networks: dict[Name, Role]
    purifiers: dict[Name, Purifier]
    features: dict[Name, Role] = {}
    evaluations: dict[Name, Evaluation] = {}
    certification: Certification = Certification()
    compute: Compute = Compute()
    zoo: Zoo = Zoo()
    training: Training = Training()

    def entry(self, role: str, name: str) -> Role:
        """The entry of a role."""
        entries = getattr(self, family_of(role).section)
        if not isinstance(name, str):
            raise UserError(f"{role} is {shown(name)}, but must be a name; {NONE!r} leaves it out")
        if name == NONE:
            raise UserError(f"`{NONE}` leaves a stage out; name one of: {', '.join(entries)}")
        if name not in entries:
            raise unknown(role, name, [*entries, NONE])
        return entries[name]

    def dataset(self, name: str) -> Dataset:
        """The entry of a data set."""
        entry = self.entry("dataset", name)
        assert isinstance(entry, Dataset)
        return entry

    def evaluation(self, name: str) -> Evaluation:
        """How results are judged; `single`, one draw of each image, is always known."""
        known = {"single": Evaluation(), **self.evaluations}
        if name not in known:
            raise unknown("evaluation", name, known)
        return known[name]

    def part(self, role: str, name: str) -> Part:
        """The part that serves a role, with those that it names in it.

        Raises:
            UserError: the role, or a part that it names, is unknown or unavailable on this track,
                or its entry says something that its kind does not know.
        """
        section, entry = family_of(role).section, self.entry(role, name)
        if entry.unavailable is not None:
            where = f"{section}.{name} is unavailable on track {self.track}"
            raise UserError(f"{where}: {entry.unavailable}")
        said = self._said(entry)
        check(role, name, said)
        inner, options = split(said)
        known = kind_named(section, said["kind"]).options
        if section == "networks" and self.compute.precision != "float32" and "precision" in known:
            options = {"precision": self.compute.precision, **options}
        return Part(
            role,
            name,
            said["kind"],
            options,
            inner={option: self.part(INNER[option], named) for option, named in inner.items()},
            weights=self._weights(said, f"{section}.{name}"),
            deterministic=self.compute.deterministic or section == "datasets",
        )

    def parts(self, roles: Mapping[str, str]) -> Parts:
        """The parts that serve several roles, without those that are `none`."""
        return {role: self.part(role, name) for role, name in roles.items() if name != NONE}

    def weights(self) -> list[Weights]:
        """The files that its parts load, once each."""
        named = ((f.roles[0], name) for f in FAMILIES for name in getattr(self, f.section))
        parts = (self.part(*one) for one in named if self.why_unavailable(*one) is None)
        return list(dict.fromkeys(file for part in parts for file in part.files()))

    def why_unavailable(self, role: str, name: str) -> str | None:
        """Why this track cannot serve a role, or a part behind it; None if it can."""
        entry = self.entry(role, name)
        if entry.unavailable is not None:
            return entry.unavailable
        inner, _ = split(self._said(entry))
        why = (self.why_unavailable(INNER[option], named) for option, named in inner.items())
        return next(filter(None, why), None)

    def served(self, role: str, name: str) -> Served:
        """What results say of a role."""
        entry = self.entry(role, name)
        by = entry.served_by or entry.zoo or name
        recommended = entry.recommended_eot_iter if isinstance(entry, Purifier) else None
        return Served(by, self.why_unavailable(role, name), entry.note, recommended)

    def _said(self, entry: Role) -> dict[str, Any]:
        """Kind and options of an entry, without what only describes the role."""
        given = entry.model_extra or {}
        if entry.zoo is None:
            return {"kind": entry.kind, **given}
        return {**self.zoo.entry(entry.zoo).part, "weights": PREFIX + entry.zoo, **given}

    def _weights(self, said: dict[str, Any], where: str) -> Weights | None:
        if "weights" not in said:
            return None
        weights = said["weights"]
        if weights is None:
            raise UserError(f"config {where}.weights is empty; name a file")
        if not str(weights).startswith(PREFIX):
            return Weights(str(weights), Path(str(weights)))
        return self.zoo.weights(weights.removeprefix(PREFIX))
