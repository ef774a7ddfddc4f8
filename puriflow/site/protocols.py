"""The protocol of a row: what two rows must share before one may stand above the other.

It is the images and their labels (by hash, so that n follows), the norm and eps, every attack with
all its settings and what it goes through, and the rule that makes an image right. Who ranks rows of
different protocols compares attacks, and not defences.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from puriflow.benchmarking.presets import options_of
from puriflow.benchmarking.record import Attacked, Benchmark, eps_text
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
        attacks: the settings of each as JSON, with its gradient.
        gradient: of all attacks, in words.
        rule: what makes an image right.
        draws: answers to an image, where the rule depends on their number.
    """

    images: str
    labels: str
    n: int
    norm: str
    eps: str
    attacks: tuple[str, ...]
    gradient: str
    rule: Rule
    draws: int | None

    @property
    def threat(self) -> str:
        """The ball, in words."""
        return f"{self.norm} {self.eps}"

    @property
    def knows(self) -> int:
        """How much of a defence its attacks know: 2 its gradient, 1 its answers or a part, or 0."""
        if GRADIENTS["full"] in self.gradient:
            return 2
        return int(self.gradient not in (TRANSFER, GRADIENTS["blind"], GRADIENTS["surrogate"]))


def protocol_of(record: Benchmark, rule: Rule, gradients: tuple[str, ...]) -> Protocol:
    """The protocol of a record by one of its rules; `gradients` are in words, of each attack."""
    counted = rule in ("worst", "majority") and record.defence.random
    settings = [_settings(json.dumps(a.options, sort_keys=True)) for a in record.attacks]
    return Protocol(
        images=record.made_by.images,
        labels=record.made_by.labels,
        n=record.n,
        norm=record.norm,
        eps=eps_text(record.eps),
        attacks=tuple(sorted(map(": ".join, zip(gradients, settings, strict=True)))),
        gradient=" and ".join(sorted(set(gradients))),
        rule=rule,
        draws=record.n_draws if counted else None,
    )


def gradient_of(record: Benchmark, attack: Attacked) -> str:
    """What an attack differentiates, in words, by what its record says."""
    if f"{attack.name} goes through {attack.through}, and does not know" in record.cut:
        return TRANSFER if "." not in attack.through else GRADIENTS["surrogate"]
    if attack.through == "its surrogate":
        return GRADIENTS["surrogate"]
    return gradient_of_options(attack.options)


def gradient_of_options(options: Mapping[str, Any]) -> str:
    """What an attack differentiates of its victim, in words, by its options."""
    kind = str(options.get("kind", "")).lower()
    if kind == "square" or options.get("version") == "square":
        return NO_GRADIENT
    inner = options.get("attacks") or [one for one in [options.get("attack")] if one]
    nested = {gradient_of_options(one) for one in inner if isinstance(one, Mapping)}
    if nested and "gradient" not in options:
        return " and ".join(sorted(nested))
    gradient = options.get("gradient") or "full"
    return GRADIENTS.get(gradient, str(gradient))


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
    """An attack with its steps and draws, in words."""
    options = attack.options
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for name, word in (("n_iter", "step"), ("eot_iter", "draw"))
        if isinstance(count := options.get(name), int)
    ]
    if options.get("version") == "square":
        counts = [f"{options['n_queries']} queries"]
    return f"{attack.name} ({', '.join(counts)})" if counts else attack.name
