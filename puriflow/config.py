"""The configuration: what serves each role, with every name checked before anything runs.

A track (config/config.yaml, config/paper.yaml) maps role names to parts. The models here are the
single source of its schema; the options of a part are checked against its `build` (parts.py).
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from puriflow import parts
from puriflow.errors import Problem, unknown
from puriflow.zoo import catalogue

TRAINABLE = ("restorers", "networks", "classifiers")
NONE = "none"  # the role that leaves a stage out
Model = TypeVar("Model", bound=BaseModel)
# What makes an image right. first: draw 0; average: the mean over draws; worst: every draw;
# majority: most draws; mean-logits: the mean of their logits; others: the mean over all draws but
# the first, for an attack that knows the first; attack: never broken by the attack's own verdict.
Rule = Literal["first", "average", "worst", "majority", "mean-logits", "others", "attack"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]


class Role(BaseModel):
    """What serves a role: a kind with its options, or the reason why this track has none."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str | None = Field(None, description="name of the part's module")
    served_by: str | None = Field(
        None, description="name in tables; default: the zoo entry's, else the role's own"
    )
    zoo: str | None = Field(None, description="zoo entry that gives kind, options and weights")
    unavailable: str | None = Field(None, description="why this track cannot serve the role")
    note: str = Field("", description="what this track does otherwise; goes into tables")

    @model_validator(mode="after")
    def _one_of_three(self) -> "Role":
        if [self.kind, self.zoo, self.unavailable].count(None) != 2:
            raise ValueError("give a kind, or a zoo entry, or the reason why it is unavailable")
        return self

    @property
    def spec(self) -> dict[str, Any]:
        """Kind and options, without what only describes the role.

        Raises:
            Problem: the zoo has no such entry.
        """
        given = self.model_extra or {}
        if self.zoo is None:
            return {"kind": self.kind, **given}
        return {**catalogue.entry(self.zoo).part, "weights": catalogue.PREFIX + self.zoo, **given}


class Dataset(Role):
    """A data set, or a fixed random subset of it."""

    shards: int = Field(1, ge=1, description="jobs that each stage of this data set is cut into")
    subset: int | None = Field(None, ge=1, description="how many images are drawn; default: all")
    subset_seed: int | list[int] = Field(
        0, description="of the draw; of several seeds, the union of as many draws"
    )


class Evaluation(BaseModel):
    """How a defence is judged on attacked (and on clean) images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    draws: int = Field(1, ge=1, description="fresh purifications of every image")
    rule: Rule = Field("first", description="what makes an image right")
    clean: Rule | None = Field(
        None, description="the same for clean images, if another; of `attack` and `others`: average"
    )
    minimum: Literal["image", "attack"] = Field(
        "image", description="of several attacks: the worst for each image, or the lowest accuracy"
    )

    @model_validator(mode="after")
    def _enough(self) -> "Evaluation":
        if self.rule == "others" and self.draws < 2:
            raise ValueError("the rule `others` needs 2 or more draws")
        return self


class Certification(BaseModel):
    """How many draws certify an image by randomised smoothing; the defaults are Cohen et al.'s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n0: int = Field(100, ge=1, description="draws that choose the class")
    n: int = Field(100_000, ge=1, description="draws that bound its chance")
    alpha: float = Field(0.001, gt=0, lt=1, description="chance that a certificate is wrong")


class Zoo(BaseModel):
    """Where official checkpoints are; an environment variable that is set counts more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache: str | None = Field(None, description="folder of downloads (PURIFLOW_CACHE)")
    folders: list[str] = Field([], description="your own folders of files (PURIFLOW_WEIGHTS)")
    entries: str | None = Field(None, description="YAML of your own entries (PURIFLOW_ZOO)")

    def use(self) -> None:
        """Say it to this process and to those that it starts."""
        places = {
            "PURIFLOW_CACHE": self.cache,
            "PURIFLOW_WEIGHTS": os.pathsep.join(self.folders),
            "PURIFLOW_ZOO": self.entries,
        }
        for variable, value in places.items():
            if value:
                os.environ.setdefault(variable, value)


class Training(BaseModel):
    """How the track's own networks are trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: dict[Name, str | None] = Field({}, description="folders that recipes name")
    held_out: int = Field(50, ge=1, description="images kept for measuring")
    restorers: dict[Name, dict[str, Any]] = Field({}, description="recipes by restorer")
    networks: dict[Name, dict[str, Any]] = Field({}, description="recipes by network")
    classifiers: dict[Name, dict[str, Any]] = Field({}, description="recipes by classifier")

    def recipe(self, family: str, name: str) -> dict[str, Any]:
        """The recipe of a part.

        Raises:
            Problem: there is none.
        """
        recipes = getattr(self, family)
        if name not in recipes:
            raise unknown(f"recipe of training.{family}", name, recipes)
        return recipes[name]


class Config(BaseModel):
    """A track: the parts behind every role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    track: str = Field(description="name of the track")
    seed: int = Field(0, ge=0, description="of all random draws")
    datasets: dict[Name, Dataset]
    classifiers: dict[Name, Role]
    attacks: dict[Name, Role]
    restorers: dict[Name, Role]
    networks: dict[Name, Role]
    purifiers: dict[Name, Role]
    features: dict[Name, Role] = {}
    evaluations: dict[Name, Evaluation] = {}
    certification: Certification = Certification()
    zoo: Zoo = Zoo()
    training: Training = Training()

    def role(self, family: str, name: str) -> Role:
        """The entry of a role.

        Raises:
            Problem: there is none of that name.
        """
        entries = getattr(self, family)
        if name not in entries:
            raise unknown(family.removesuffix("s"), name, [*entries, NONE])
        return entries[name]

    def evaluation(self, name: str) -> Evaluation:
        """How results are judged; `single`, one draw of each image, is always known.

        Raises:
            Problem: there is none of that name.
        """
        known = {"single": Evaluation(), **self.evaluations}
        if name not in known:
            raise unknown("evaluation", name, known)
        return known[name]

    def spec(self, family: str, name: str) -> dict[str, Any]:
        """Kind and options of a role, with the network that it names put in place of the name.

        Raises:
            Problem: the role, or its network, is unknown or unavailable on this track.
        """
        role = self.role(family, name)
        if role.unavailable is not None:
            raise Problem(
                f"{family}.{name} is unavailable on track {self.track}: {role.unavailable}"
            )
        spec = role.spec
        if isinstance(network := spec.get("network"), str):
            spec["network"] = self.spec("networks", network)
        return spec

    def defence(self, roles: dict[str, str]) -> dict[str, dict[str, Any] | None]:
        """The specs of a defence by `restorer`, `purifier` and `classifier`; None for `none`.

        Raises:
            Problem: as `spec`.
        """
        return {
            role: None if name == NONE else self.spec(f"{role}s", name)
            for role, name in roles.items()
        }

    def why_unavailable(self, family: str, name: str) -> str | None:
        """Why this track cannot serve a role, or the network behind it; None if it can."""
        role = self.role(family, name)
        if role.unavailable is None and isinstance(network := role.spec.get("network"), str):
            return self.why_unavailable("networks", network)
        return role.unavailable


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises:
        Problem: the file is missing, is not YAML, or says something that is not known.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise Problem(f"config {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise Problem(f"config {path}: {' '.join(str(error).split())}") from None
    return check_config(raw, where=f"config {path}")


def check_config(raw: object, *, where: str = "config") -> Config:
    """Check a configuration that was read, down to the option names of every part."""
    config = validated(Config, raw, where)
    config.zoo.use()
    for family in parts.FAMILIES:
        for name in getattr(config, family):
            if name == NONE:
                raise Problem(f"{where}: {family}.{NONE} is a reserved name")
            if config.why_unavailable(family, name) is None:
                spec = config.spec(family, name)
                parts.check(family, name, spec)
                if "weights" in spec and spec["weights"] is None:
                    raise Problem(f"{where}: {family}.{name}.weights is empty; name a file")
    for family in TRAINABLE:
        for name, recipe in getattr(config.training, family).items():
            config.role(family, name)
            if (start := recipe.get("start")) is not None:
                config.training.recipe(family, start)
    return config


def validated(model: type[Model], raw: object, where: str) -> Model:
    """Validate by a pydantic model; the first error becomes one line with the nearest name."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise unknown(f"key (in {where})", place, model.model_fields) from None
        raise Problem(f"{where}: {place or 'the file'}: {first['msg']}") from None


def schema() -> str:
    """The JSON schema of a configuration file, for editors: workflow/schemas/config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
