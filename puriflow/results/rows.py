"""The rows of tables and sweeps: the roles of a chain, its attacks, and the paper's numbers."""

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from puriflow.chain import Chain, victim_name
from puriflow.config import NONE, Config
from puriflow.results.base import Model, served_by


class Threat(Model):
    """An attack, and through what it goes."""

    attack: str
    victim: Literal["classifier", "defence"] = Field(
        "classifier", description="preprocessor-blind, or adaptive"
    )
    surrogate: str | None = Field(
        None, description="purifier that the attack goes through in place of the defence's"
    )

    def victim_of(self, chain: Chain) -> str:
        """The victim by which a chain's defence is attacked."""
        if self.victim == "classifier":
            return chain.classifier
        return victim_name(chain.restorer, self.surrogate or chain.purifier, chain.classifier)

    def words(self, attack: str, surrogate: str | None) -> str:
        """It in words, by what its attack and its surrogate are called."""
        if surrogate is not None:
            return f"{attack} on the defence with {surrogate}"
        return f"{attack} on the defence" if self.victim == "defence" else attack

    def served_by(self, track: Config) -> str:
        """It in words, by what serves it on a track."""
        surrogate = self.surrogate and served_by(track, "purifier", self.surrogate)
        return self.words(served_by(track, "attack", self.attack), surrogate)


def recommended_draws(track: Config, purifier: str) -> int | None:
    """How many draws of its gradient a track recommends for a purifier; None if it says nothing."""
    return None if purifier == NONE else track.served("purifier", purifier).recommended_eot_iter


def few_draws(track: Config, threats: Iterable[Threat], purifier: str) -> list[str]:
    """Which attacks through a purifier average fewer draws of its exact gradient than recommended.

    An attack that knows the seed has one draw, which is the right one.
    """
    found = []
    for threat in threats:
        recommended = recommended_draws(track, threat.surrogate or purifier)
        if threat.victim == "classifier" or recommended is None:
            continue
        attack = track.part("attack", threat.attack)
        own, exact = attack.value("eot_iter"), attack.value("gradient") == "full"
        if own is not None and own < recommended and exact and not attack.value("fixed"):
            found.append(f"{threat.attack} averages {own} draws, and {recommended} are recommended")
    return found


def by_attack(track: Config, threats: Iterable[Threat], right: Iterable[np.ndarray]) -> str | None:
    """The accuracy under each of several attacks, in percent, of how right images are under it."""
    accuracies = [
        f"{threat.served_by(track)}: {100 * under.mean():.1f}"
        for threat, under in zip(threats, right, strict=True)
    ]
    return "; ".join(accuracies) if len(accuracies) > 1 else None


def _mapping(given: object) -> object:
    """An attack may be written as its name alone."""
    return {"attack": given} if isinstance(given, str) else given


def listed(given: object) -> object:
    """One name may be written without a list."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)


OneThreat = Annotated[Threat, BeforeValidator(_mapping)]
Threats = Annotated[tuple[OneThreat, ...], BeforeValidator(listed), Field(min_length=1)]


class Paper(Model):
    """The paper's numbers of a row, accuracies in percent; None where it has none."""

    standard: float | None = Field(None, ge=0, le=100)
    robust: float | None = Field(None, ge=0, le=100)
    n: int | None = Field(None, description="of images, where it is known")
    source: str | None = Field(None, description="whose numbers these are, if not the paper's own")
    macs_g: float | None = Field(None, ge=0, description="of the restorer; the paper's FLOPs")
    params_m: float | None = Field(None, ge=0, description="of the restorer")

    @property
    def gap(self) -> float | None:
        """Standard less robust accuracy."""
        if self.standard is None or self.robust is None:
            return None
        return self.standard - self.robust


class Row(Model):
    """One chain: its roles, where they differ from the table's.

    Several attacks give the worst of them, by the evaluation's `minimum`.
    """

    method: str
    type: str
    dataset: str | None = None
    classifier: str | None = None
    attack: Threats | None = None
    restorer: str | None = None
    purifier: str | None = None
    evaluation: str | None = None
    quoted: str | None = Field(None, description="whose numbers the paper quotes; nothing is run")
    paper: Paper = Paper()
    note: str = ""
