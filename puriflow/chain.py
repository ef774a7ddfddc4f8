"""A chain of roles and where its stages are: the path of a store is the chain that made it.

    images -> attack -> restore -> purify -> classify

A stage whose role is `none` is left out and has no store; what follows reads the stage before it.
Chains with a common beginning share the stores of it. Where a random purifier is asked several
times, one stage, `evaluate`, takes the place of purify and classify; it keeps the logits of all
draws and the images of the first.

A victim is a classifier, or a whole defence written `restorer.purifier.classifier`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from puriflow.errors import UserError
from puriflow.registry import NONE

BEHIND_RESULTS = False

# The roles in the path of each stage's store, in order. An attack's path holds its victim.
STAGES = {
    "images": ("dataset",),
    "attack": ("dataset", "attack", "victim"),
    "restore": ("dataset", "attack", "victim", "restorer"),
    "purify": ("dataset", "attack", "victim", "restorer", "purifier"),
    "classify": ("dataset", "attack", "victim", "restorer", "purifier", "classifier"),
    "evaluate": ("dataset", "attack", "victim", "restorer", "purifier", "classifier", "n_draws"),
}


def victim_name(restorer: str, purifier: str, classifier: str) -> str:
    """A defence as a victim: its three roles, or only the classifier where it has no other."""
    roles = (restorer, purifier, classifier)
    return classifier if roles[:2] == (NONE, NONE) else ".".join(roles)


def victim_roles(victim: str) -> dict[str, str]:
    """The roles of a victim by `restorer`, `purifier` and `classifier`."""
    roles = victim.split(".")
    if len(roles) == 1:
        roles = [NONE, NONE, victim]
    if len(roles) != 3:
        raise UserError(
            f"victim {victim!r} must be a classifier, or a defence as restorer.purifier.classifier"
        )
    return dict(zip(("restorer", "purifier", "classifier"), roles, strict=True))


@dataclass(frozen=True)
class Chain:
    """Names of the roles along one chain."""

    dataset: str
    attack: str = NONE
    victim: str = NONE
    restorer: str = NONE
    purifier: str = NONE
    classifier: str = NONE
    n_draws: int = 1  # how often the purifier is asked

    def has(self, stage: str) -> bool:
        """Whether the stage has a store in this chain."""
        if stage in (("purify", "classify") if self.n_draws > 1 else ("evaluate",)):
            return False
        own = {"restore": "restorer", "purify": "purifier", "classify": "classifier"}
        return getattr(self, own.get(stage, stage), self.dataset) != NONE

    @property
    def adaptive(self) -> bool:
        """Whether the attack is on this very defence, so that its own verdict is about it."""
        return self.victim == victim_name(self.restorer, self.purifier, self.classifier)

    @property
    def last(self) -> str:
        """The stage whose store has the logits."""
        return "evaluate" if self.n_draws > 1 else "classify"

    @property
    def final(self) -> str:
        """The stage whose store has the images that are classified; of several draws, the first."""
        return "evaluate" if self.n_draws > 1 else self.before("classify")

    def folder(self, stage: str, shard: str) -> str:
        """Path of a stage's store below the results: stage, roles, shard."""
        roles = (str(getattr(self, role)) for role in STAGES[stage])
        return str(PurePosixPath(stage, *roles, shard))

    def before(self, stage: str) -> str:
        """The nearest earlier stage that has a store."""
        order = list(STAGES)
        earlier = order[: order.index(stage)]
        return next(s for s in reversed(earlier) if self.has(s))

    def stages(self) -> Iterator[str]:
        """The stages that have a store, in order."""
        return (stage for stage in STAGES if self.has(stage))


def shard_names(count: int) -> list[str]:
    """Names of the shards of a data set: `0-of-2`, `1-of-2`."""
    return [f"{i}-of-{count}" for i in range(count)]
