"""Lineage: what a store was made from, held against what is there.

The path of a store says the stages before it, and its manifest the identity of the one that it was
made from. Results may be moved and renamed: identities are compared, not the paths that manifests
recorded.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from puriflow.chain import STAGES, Chain, victim_roles
from puriflow.checksums import file_hash
from puriflow.elsewhere import is_file
from puriflow.errors import UserError
from puriflow.registry import DETERMINISTIC, NONE, Part, Parts
from puriflow.store import MANIFEST, Stage, open_stage
from puriflow.store.manifest import cure

BEHIND_RESULTS = False
SHARD = re.compile(r"\d+-of-\d+")
NUMBERS = {"n_draws": re.compile(r"\d+"), "sigma": re.compile(r"\d+(\.\d+)?([eE][+-]?\d+)?")}
# The roles in the path of every store; certificates stand beside the chain, on clean images.
ROLES = {
    **STAGES,
    "certify": ("dataset", "restorer", "denoiser", "purifier", "classifier", "sigma"),
}
# Those of them with which the stage itself computes; of an attack, its victim's as well.
COMPUTES = {
    "images": ("dataset",),
    "attack": ("attack",),
    "restore": ("restorer",),
    "purify": ("purifier",),
    "classify": ("classifier",),
    "evaluate": ("purifier", "classifier"),
    "certify": ("restorer", "denoiser", "purifier", "classifier"),
}


@dataclass(frozen=True)
class Place:
    """The place of a store below the results: stage, names of roles, shard.

    Attributes:
        names: by role, in the order of the path.
    """

    results: Path
    stage: str
    names: dict[str, str]
    shard: str

    @classmethod
    def of(cls, folder: Path) -> "Place | None":
        """The place that a folder is, by its path alone; None if it is none."""
        return cls._of(folder) or cls._of(folder.absolute())

    @classmethod
    def _of(cls, folder: Path) -> "Place | None":
        *above, shard = folder.parts or ("",)
        for stage, roles in ROLES.items():
            start = len(above) - len(roles) - 1
            if start >= 0 and above[start] == stage and SHARD.fullmatch(shard):
                names = dict(zip(roles, above[start + 1 :], strict=True))
                if all(NUMBERS[role].fullmatch(names[role]) for role in NUMBERS.keys() & names):
                    return cls(folder.parents[len(roles) + 1], stage, names, shard)
        return None

    @property
    def folder(self) -> Path:
        """The folder of the store."""
        return self.results.joinpath(self.stage, *self.names.values(), self.shard)

    @property
    def images(self) -> "Place":
        """The place of the images with which its chain begins."""
        return replace(self, stage="images", names={"dataset": self.names["dataset"]})

    @property
    def source(self) -> "Place | None":
        """The place of the store that the one there is made from; None of images."""
        if self.stage == "images":
            return None
        if self.stage == "certify":
            return self.images
        roles = {role: name for role, name in self.names.items() if role != "n_draws"}
        chain = Chain(**roles, n_draws=int(self.names.get("n_draws", 1)))
        stage = chain.before(self.stage)
        return replace(self, stage=stage, names={r: self.names[r] for r in ROLES[stage]})

    def before(self) -> Iterator["Place"]:
        """The places of all stores before it in its chain, the nearest first."""
        place = self.source
        while place is not None:
            yield place
            place = place.source

    @property
    def parts(self) -> dict[str, str]:
        """The names of the parts with which its stage computes, by role, without `none`."""
        named = {role: self.names[role] for role in COMPUTES[self.stage]}
        if self.stage == "attack":
            named |= victim_roles(self.names["victim"])
        return {role: name for role, name in named.items() if name != NONE}

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of its stage that its path says."""
        found: dict[str, float] = {}
        if self.stage == "images":
            found["shard"], found["shards"] = map(int, self.shard.split("-of-"))
        if "n_draws" in self.names:
            found["n_draws"] = int(self.names["n_draws"])
        if "sigma" in self.names:
            found["sigma"] = float(self.names["sigma"])
        return found


def open_in_chain(path: str | Path) -> Stage:
    """Open a finished stage, verified, by its folder or its manifest, and check its lineage.

    Raises:
        UserError: it is not as its manifest says; or it, or one that it was made from, is of
            another stage than its path says, or was made from another store than is there now.
    """
    stage = opened = open_stage(path)
    place = Place.of(stage.folder)
    while place is not None:
        check_stage(opened, place)
        place = place.source
        if place is None or not is_file(place.folder / MANIFEST):
            break  # what was deleted, to get its room back, is not compared
        source = open_stage(place.folder, verify=False)
        check_source(opened, source)
        opened = source
    return stage


def check_stage(stage: Stage, place: Place) -> None:
    """Check that a store is of the stage, and has the numbers, that its place says."""
    if stage.manifest["stage"] != place.stage:
        made = f"is of the stage {stage.manifest['stage']}, and not of {place.stage}"
        raise UserError(f"store {stage.folder} {made}; {cure(stage.folder)}")
    check_numbers(stage, place.numbers)


def check_numbers(stage: Stage, numbers: Mapping[str, Any]) -> None:
    """Check that a store was made with these numbers of its stage."""
    for name, number in numbers.items():
        if (found := stage.manifest["parameters"].get(name)) != number:
            other = f"was made with {name} {found}, and not {number}"
            raise UserError(f"store {stage.folder} {other}; {cure(stage.folder)}")


def check_data(stage: Stage, dataset: str, now: str | None) -> None:
    """Check that images were stored from the files that their data set has now (`data_hash`)."""
    if now is not None and stage.manifest["parameters"].get("fingerprint") != now:
        made = f"was made from other files than data set {dataset} has now"
        raise UserError(f"store {stage.folder} {made}; {cure(stage.folder)}")


def check_source(stage: Stage, source: Stage) -> None:
    """Check that a store was made from the one that is in its source's place now."""
    if source.identity not in stage.manifest["upstream"].values():
        made = f"was made from another store than {source.folder}, which is there now"
        raise UserError(f"store {stage.folder} {made}; {cure(stage.folder)}")


def check_same_samples(stage: Stage, source: Stage) -> None:
    """Check that two stores of a chain have the same samples: labels and indices, in order."""
    for name in ("label", "index"):
        if not np.array_equal(stage.read(name), source.read(name)):
            other = f"has another {name} than {source.folder}"
            raise UserError(f"store {stage.folder} {other}; {cure(stage.folder)}")


def check_shards(stages: list[Stage]) -> None:
    """Check that stores are shards of one stage: made alike, of other images each."""
    first = stages[0]
    for one in stages[1:]:
        if _made_by(one) != _made_by(first):
            made = f"was made otherwise than {first.folder}: by other options, seed or weights"
            raise UserError(f"store {one.folder} {made}; {cure(one.folder)}")
    indices = np.concatenate([one.read("index") for one in stages])
    if len(np.unique(indices)) < len(indices):
        folders = " and ".join(str(one.folder) for one in stages)
        raise UserError(f"stores {folders} share an image; {cure(first.folder)}")


def check_parts(stage: Stage, parts: Parts, seed: int) -> None:
    """Check that a store was made by the parts, by role, that its place names, and from the seed.

    Stages that draw nothing have none.
    """
    if (found := stage.manifest["seed"]) not in (None, seed):
        other = f"was made with seed {found}, and not {seed}"
        raise UserError(f"store {stage.folder} {other}; {cure(stage.folder)}")
    for role, part in parts.items():
        if not _is_of(stage.manifest["parameters"].get(role), part) or not _loaded(stage, part):
            other = f"was not made by the {role} {part.name} of this track"
            raise UserError(f"store {stage.folder} {other}; {cure(stage.folder)}")


def _made_by(stage: Stage) -> list[object]:
    """What the shards of a stage have in common of all that made them."""
    manifest = stage.manifest
    parameters = {k: v for k, v in manifest["parameters"].items() if k != "shard"}
    return [_without_weights(parameters), manifest["seed"], sorted(manifest["weights"].values())]


def _without_weights(value: Any) -> Any:
    """Options of parts without the names of their weights, whose hashes count instead."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without_weights(v) for key, v in value.items() if key != "weights"}


def _is_of(recorded: object, part: Part) -> bool:
    """Whether the record of a part, which has all its options, is of this one.

    An option that was not there yet had what is its default now.
    """
    defaults = _as_recorded({DETERMINISTIC: True, **part.known.defaults})
    known = {**defaults, **(recorded if isinstance(recorded, Mapping) else {})}
    said = {**defaults, **_as_recorded(part.entry())}
    for option, inner in part.inner.items():
        del said[option]
        if not _is_of(known.get(option), inner):
            return False
    return all(key in known and known[key] == value for key, value in said.items())


def _as_recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without weights, as a manifest has them."""
    return json.loads(json.dumps(_without_weights(options)))


def _loaded(stage: Stage, part: Part) -> bool:
    """Whether a stage loaded a part's weights: the zoo's by name, and by bytes but for conversions.

    A converter may write the same weights otherwise.
    """
    loaded = stage.manifest["weights"]
    zoo = {weights.label for weights in part.files() if weights.published is not None}
    others = (weights.file for weights in part.files() if weights.source is None)
    here = {file_hash(file) for file in others if file.is_file()}
    return zoo <= loaded.keys() and here <= set(loaded.values())
