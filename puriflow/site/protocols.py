"""The protocol of a row: what two rows must share before one may stand above the other.

It is the images and their labels (by hash, so that n follows), the norm and eps, every attack with
all its settings and what it goes through, and the rule that makes an image right. Who ranks rows of
different protocols compares attacks, and not defences. That an attack knows a defence is believed
of our own kinds of attacks alone, whose code says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from puriflow.benchmarking.presets import options_of
from puriflow.benchmarking.record import (
    CLASSIFIER,
    DEFENCE,
    SURROGATE,
    Attacked,
    Benchmark,
    eps_text,
)
from puriflow.errors import UserError
from puriflow.kinds import own_kinds
from puriflow.metrics.rules import Rule
from puriflow.registry import part_of

BEHIND_RESULTS = False
GRADIENTS = {
    "full": "exact",
    "identity": "identity (BPDA)",
    "restorer": "restorer's, then identity (BPDA)",
    "surrogate": "a surrogate's",
    "blind": "none of the defence's",
}
TRANSFER = "classifier's alone"
NO_GRADIENT = "black box"
NOT_SAID = "not said"
# How much of a defence an attack knows: its gradient, or its answers or a part; of others nothing.
KNOWS = {GRADIENTS["full"]: 2, NO_GRADIENT: 1, GRADIENTS["identity"]: 1, GRADIENTS["restorer"]: 1}
# Rules that say something else of more answers; those in an attack's loop are among its options.
COUNTED = ("worst", "majority", "mean-logits")
RULES: dict[Rule, str] = {
    "first": "the first answer",
    "average": "the mean over answers",
    "worst": "every answer",
    "majority": "the vote of answers",
    "mean-logits": "the mean of logits",
    "others": "the mean over all answers but the first",
    "in-loop-average": "the mean over answers in the attack's loop",
    "in-loop-majority": "the vote of answers in the attack's loop",
    "in-loop-worst": "every answer in the attack's loop",
    "attack": "the attack's own verdict",
}


@dataclass(frozen=True)
class Protocol:
    """What rows that are ranked together share; equal where all of it is.

    Attributes:
        images, labels: their sha256.
        n: of images.
        norm, eps: the threat model.
        attacks: the settings of each as JSON, with its gradient and what it goes through.
        gradients: of all attacks, in words.
        rule: what makes an image right.
        draws: answers to an image, where the rule depends on their number.
    """

    images: str
    labels: str
    n: int
    norm: str
    eps: str
    attacks: tuple[str, ...]
    gradients: tuple[str, ...]
    rule: Rule
    draws: int | None

    @property
    def threat(self) -> str:
        """The ball, in words."""
        return f"{self.norm} {self.eps}"

    @property
    def gradient(self) -> str:
        """That of all attacks, in words."""
        return " and ".join(self.gradients)

    @property
    def knows(self) -> int:
        """How much of a defence the attack knows that knows most; see `KNOWS`."""
        return max(KNOWS.get(gradient, 0) for gradient in self.gradients)


def protocol_of(record: Benchmark, rule: Rule) -> Protocol:
    """The protocol of a record by one of its rules."""
    attacks = [
        f"{gradient_of(attack)}{elsewhere(attack)}: "
        + _settings(json.dumps(attack.options, sort_keys=True))
        for attack in record.attacks
    ]
    return Protocol(
        images=record.made_by.images,
        labels=record.made_by.labels,
        n=record.n,
        norm=record.norm,
        eps=eps_text(record.eps),
        attacks=tuple(sorted(attacks)),
        gradients=tuple(sorted({gradient_of(attack) for attack in record.attacks})),
        rule=rule,
        draws=record.n_draws if rule in COUNTED and record.defence.random else None,
    )


def gradient_of(attack: Attacked) -> str:
    """What an attack differentiates, in words, by what its record says."""
    if attack.through == CLASSIFIER:
        return TRANSFER
    if attack.through == SURROGATE or attack.through.startswith(f"{DEFENCE} with "):
        return GRADIENTS["surrogate"]
    return NOT_SAID if elsewhere(attack) else _differentiated(attack.options)


def elsewhere(attack: Attacked) -> str:
    """What an attack goes through, where it is neither the defence nor its classifier."""
    place, _, gradient = attack.through.partition(", ")  # `the defence, blind` of the ladder
    known = attack.through == CLASSIFIER or (place == DEFENCE and gradient in ("", *GRADIENTS))
    return "" if known else f" through {attack.through}"


def _differentiated(options: Mapping[str, Any]) -> str:
    """What an attack differentiates of its victim, in words, by its options.

    A record has the name of an attack's class, and a store that of its kind. Of attacks that one is
    made of, Square's alone has no gradient.
    """
    kind = options["kind"].lower().replace("-", "")
    if kind not in _own_gradients():
        return NOT_SAID
    if kind == "square" or options.get("version") == "square":
        return NO_GRADIENT
    if inner := {_differentiated(one) for one in options.get("attacks", ())}:
        said = inner - {NO_GRADIENT} or inner
        return said.pop() if len(said) == 1 else NOT_SAID
    gradient = options.get("gradient") or _own_gradients()[kind]
    return GRADIENTS.get(gradient, NOT_SAID)


@cache
def _own_gradients() -> dict[str, str]:
    """Our own attacks in small letters, and their `gradient` where their options have none."""
    found = {k.name.replace("-", ""): k.defaults.get("gradient") for k in own_kinds("attacks")}
    return {kind: gradient or "full" for kind, gradient in found.items()} | {"fabt": "full"}


@cache
def _settings(options: str) -> str:
    """All options of an attack as JSON, the same for equal ones.

    A store has them as an entry of a track says them, and a benchmark as the attack itself. Of an
    entry of a kind of our own the attack is built, so that the two are alike.
    """
    said = json.loads(options)
    known = {kind.name for kind in own_kinds("attacks")}
    if said.get("kind") not in known:
        return options
    try:
        made = json.dumps(options_of(part_of("attack", "record", said).build()), sort_keys=True)
    except UserError:
        return options
    return options if '"function"' in made else made  # of which nobody knows what it is


def attack_words(attack: Attacked) -> str:
    """An attack with its steps and draws, in words, and what it goes through instead."""
    options = attack.options
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for name, word in (("n_iter", "step"), ("eot_iter", "draw"))
        if isinstance(count := options.get(name), int)
    ]
    if options.get("version") == "square":
        counts = [f"{options.get('n_queries')} queries"]
    return attack.name + (f" ({', '.join(counts)})" if counts else "") + elsewhere(attack)
