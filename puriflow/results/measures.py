"""What is measured of chains, from the stores of their stages."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np

from puriflow.chain import Chain
from puriflow.config import Config, Evaluation
from puriflow.metrics.accuracy import cross_entropy, judged
from puriflow.metrics.rules import Rule
from puriflow.results.base import shards_of
from puriflow.store import Stage, open_stage


@dataclass(frozen=True)
class Measures:
    """What is measured of one chain.

    Attributes:
        right: by rule, how right the chain is about each image, (n,) in [0, 1].
        losses: cross-entropy of each image, the mean over draws, (n,), in nats.
        errors: mean squared errors, (n,) on [0, 1], of the images that are classified to the clean
            ones; None where they are not stored.
        seconds_per_image: of the defence alone (restore, purify and classify), for one draw.
    """

    right: dict[Rule, np.ndarray]
    losses: np.ndarray
    errors: np.ndarray | None
    seconds_per_image: float | None

    @property
    def cross_entropy(self) -> float:
        """Mean over images and draws, in nats."""
        return float(np.mean(self.losses))

    @property
    def mse(self) -> float | None:
        """Mean of the errors over images."""
        return None if self.errors is None else float(np.mean(self.errors))


class Stores:
    """The stores of a track below a folder of results; each is opened and measured once.

    Args:
        track: whose data sets say their shards.
        results: the folder.
    """

    def __init__(self, track: Config, results: Path):
        self.track = track
        self.open = cache(lambda folder: open_stage(results / folder))
        self.measure = cache(self._measure)

    def shards(self, chain: Chain, stage: str) -> list[Stage]:
        """A chain's stores of one stage, a shard each."""
        shards = shards_of(self.track, chain.dataset)
        return [self.open(chain.folder(stage, shard)) for shard in shards]

    def read(self, chain: Chain, stage: str, array: str) -> np.ndarray:
        """An array of a chain's stage, of all images."""
        return np.concatenate([store.read(array) for store in self.shards(chain, stage)])

    def _measure(self, chain: Chain) -> Measures:
        """What is measured of a chain with a classifier, over all shards."""
        stages = list(chain.stages())
        shards = zip(*(self.shards(chain, stage) for stage in stages), strict=True)
        parts = [_of_shard(chain, dict(zip(stages, shard, strict=True))) for shard in shards]
        counts = [len(part.losses) for part in parts]
        errors = [part.errors for part in parts if part.errors is not None]
        seconds = [s for part in parts if (s := part.seconds_per_image) is not None]
        timed = len(seconds) == len(parts)
        return Measures(
            right={r: np.concatenate([part.right[r] for part in parts]) for r in parts[0].right},
            losses=np.concatenate([part.losses for part in parts]),
            errors=np.concatenate(errors) if errors else None,
            seconds_per_image=np.average(seconds, weights=counts).item() if timed else None,
        )


def _of_shard(chain: Chain, stages: dict[str, Stage]) -> Measures:
    last = stages[chain.last]
    labels = last.read("label")
    several = chain.last == "evaluate"
    logits = last.read("answers") if several else last.read("logits")[:, None]
    rules = [r for r in get_args(Rule) if r != "attack"] if several else ["first"]
    right = {rule: judged(logits, labels, rule) for rule in rules}
    if "attack" in stages and chain.adaptive:
        right["attack"] = 1.0 - stages["attack"].read("success")
    n_draws = logits.shape[1]
    timed = {n: s.seconds_per_image for n, s in stages.items() if n not in ("images", "attack")}
    spent = [t / n_draws if n == "evaluate" else t for n, t in timed.items() if t is not None]
    losses = [cross_entropy(logits[:, draw], labels) for draw in range(n_draws)]
    final = None if several else stages[chain.before("classify")]
    return Measures(
        right=right,
        losses=np.mean(losses, axis=0),
        errors=None if final is None else _squared_errors(final, stages["images"]),
        seconds_per_image=sum(spent) if len(spent) == len(timed) else None,
    )


def _squared_errors(final: Stage, clean: Stage, batch: int = 64) -> np.ndarray:
    """Mean squared error of every image (n,), on [0, 1]."""
    errors = []
    for start in range(0, clean.count, batch):
        a, b = (s.read("images", start, start + batch) for s in (final, clean))
        errors.append(((a - b) ** 2).mean(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(errors)


def outcomes(
    evaluation: Evaluation, clean: Measures, attacked: list[Measures]
) -> dict[str, np.ndarray]:
    """How right a defence is about each image, (n,) in [0, 1]: `standard` and `robust`.

    Args:
        evaluation: how it is judged.
        clean: of the chain of clean images.
        attacked: of the chain of each attack, of which the worst counts.
    """
    # What an attack says of its own success, it says of attacked images only; and without a
    # random purifier, all rules but its own are the first.
    rule = evaluation.rule
    clean_rule = evaluation.clean or ("average" if rule in ("attack", "others") else rule)
    standard = clean.right.get(clean_rule, clean.right["first"])
    rights = [threat.right.get(rule, threat.right["first"]) for threat in attacked]
    if len(rights) == 1 or evaluation.minimum == "attack":
        robust = min(rights, key=np.mean)
    else:  # what is wrong without any attack is not robust
        robust = np.min([standard, *rights], axis=0)
    return {"standard": standard, "robust": robust}
