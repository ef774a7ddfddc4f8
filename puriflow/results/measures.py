"""What is measured of chains, from the stores of their stages."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np

from puriflow.chain import Chain
from puriflow.config import Config, Evaluation
from puriflow.elsewhere import is_file
from puriflow.errors import UserError
from puriflow.lineage import (
    Place,
    check_numbers,
    check_parts,
    check_same_samples,
    check_shards,
    open_in_chain,
)
from puriflow.metrics.accuracy import cross_entropy, judged, judged_in_loop
from puriflow.metrics.paired import compare
from puriflow.metrics.rules import InLoop, Measured, OfAnswers, Rule
from puriflow.results.base import shards_of
from puriflow.store import MANIFEST, Stage

# What is measured of every image, and how a mean over images is rounded in a CSV.
METRICS: dict[str, Callable[[float], float]] = {
    "cross_entropy": lambda mean: round(mean, 4),  # in nats, the mean over draws
    # of what is classified, of several draws of the first, to the clean image; and what it comes
    # from: how far a pixel's mean over draws is off, squared, and its variance over draws
    "mse": lambda mean: float(f"{mean:.4g}"),
    "bias2": lambda mean: float(f"{mean:.4g}"),
    "variance": lambda mean: float(f"{mean:.4g}"),
}
ON_CLEAN: dict[InLoop, Measured] = {
    "in-loop-average": "in-loop-average-on-clean",
    "in-loop-majority": "in-loop-majority-on-clean",
    "in-loop-worst": "in-loop-worst-on-clean",
}
BATCH, IMAGES = 256, 64  # answers, and images, that are in memory at once
UNDER_ATTACK = ("robust", "gap", "cross_entropy")  # what an attack that failed says nothing of


@dataclass(frozen=True)
class Measures:
    """What is measured of one chain.

    Attributes:
        right: by rule, how right the chain is about each image, (n,) in [0, 1].
        metrics: each of `METRICS` of every image, (n,); those that tell draws apart where there are
            several.
        seconds_per_image: of the defence alone (restore, purify and classify), for one draw.
    """

    right: dict[Measured, np.ndarray]
    metrics: dict[str, np.ndarray]
    seconds_per_image: float | None

    def __len__(self) -> int:
        """How many images."""
        return len(next(iter(self.right.values())))

    def by(self, rule: Rule) -> np.ndarray:
        """How right it is by a rule, (n,); rules of answers are the first where there is one."""
        known = rule in self.right or rule not in get_args(OfAnswers)  # which nothing stands for
        return self.right[rule if known else "first"]

    def means(self) -> dict[str, float]:
        """The mean of each metric over images, rounded."""
        return {name: METRICS[name](float(np.mean(own))) for name, own in self.metrics.items()}


class Stores:
    """The stores of a track below a folder of results; each is opened and measured once.

    Args:
        track: which says what parts serve the roles of a path, and the shards of a data set.
        results: the folder.
    """

    def __init__(self, track: Config, results: Path):
        self.track, self.results = track, results
        self.open = cache(self._open)
        self.together = cache(self._together)
        self.measure = cache(self._measure)

    def _open(self, folder: str) -> Stage:
        """The store of a folder below the results, if it is what its path says.

        Raises:
            UserError: it is damaged, or of another chain, other parts or other images.
        """
        stage = open_in_chain(self.results / folder)
        place = Place.of(stage.folder)
        assert place is not None
        check_parts(stage, self.track.parts(place.parts), self.track.seed)
        if place.stage == "images":
            drawn = self.track.dataset(place.names["dataset"])
            check_numbers(stage, {"subset": drawn.subset, "subset_seeds": drawn.subset_seeds})
        elif is_file(place.images.folder / MANIFEST):
            images = place.images.folder.relative_to(place.results)
            check_same_samples(stage, self.open(str(images)))
        return stage

    def _together(self, folders: tuple[str, ...]) -> list[Stage]:
        """The stores of several folders, which are shards of one stage."""
        stages = [self.open(folder) for folder in folders]
        check_shards(stages)
        return stages

    def shards(self, chain: Chain, stage: str) -> list[Stage]:
        """A chain's stores of one stage, a shard each."""
        shards = shards_of(self.track, chain.dataset)
        return self.together(tuple(chain.folder(stage, shard) for shard in shards))

    def read(self, chain: Chain, stage: str, array: str) -> np.ndarray:
        """An array of a chain's stage, of all images."""
        return np.concatenate([store.read(array) for store in self.shards(chain, stage)])

    def source(self, chain: Chain) -> tuple[str, str]:
        """What the images of a chain are taken from: the part that reads them, and its data."""
        said = self.shards(chain, "images")[0].manifest["parameters"]
        return str(said["dataset"]), said["fingerprint"]

    def _measure(self, chain: Chain) -> Measures:
        """What is measured of a chain with a classifier, over all shards.

        In memory is what is kept of every image, and a batch of what that is made of.
        """
        stages = list(chain.stages())
        stores = zip(*(self.shards(chain, stage) for stage in stages), strict=True)
        shards = [dict(zip(stages, shard, strict=True)) for shard in stores]
        parts = [
            _of_batch(chain, shard, start, start + BATCH)
            for shard in shards
            for start in range(0, shard["images"].count, BATCH)
        ]
        rights, metrics = zip(*parts, strict=True)
        seconds = [s for shard in shards if (s := _seconds_per_image(chain, shard)) is not None]
        counts = [shard["images"].count for shard in shards]
        timed = len(seconds) == len(shards)
        return Measures(
            right={rule: np.concatenate([part[rule] for part in rights]) for rule in rights[0]},
            metrics={name: np.concatenate([part[name] for part in metrics]) for name in metrics[0]},
            seconds_per_image=np.average(seconds, weights=counts).item() if timed else None,
        )


def _of_batch(
    chain: Chain, stages: dict[str, Stage], start: int, stop: int
) -> tuple[dict[Measured, np.ndarray], dict[str, np.ndarray]]:
    """How right a chain is about some images of a shard, by rule, and their metrics."""
    last = stages[chain.last]
    labels = last.read("label", start, stop)
    several = chain.last == "evaluate"
    logits = last.read("answers" if several else "logits", start, stop)
    logits = logits if several else logits[:, None]
    rules = get_args(OfAnswers) if several else ("first",)
    right: dict[Measured, np.ndarray] = {rule: judged(logits, labels, rule) for rule in rules}
    if "attack" in stages and chain.adaptive:
        right |= _by_the_attack(stages["attack"], start, stop)
    losses = [cross_entropy(logits[:, draw], labels) for draw in range(logits.shape[1])]
    errors = _squared_errors(stages[chain.final], stages["images"], start, stop)
    metrics = {"cross_entropy": np.mean(losses, axis=0), "mse": errors}
    if several:
        variance = last.read("variance", start, stop)
        metrics |= {"bias2": errors - variance, "variance": variance}  # both without bias
    return right, metrics


def _seconds_per_image(chain: Chain, stages: dict[str, Stage]) -> float | None:
    """Of the defence alone, for one draw; None if one of a shard's stages was not timed."""
    timed = {n: s.seconds_per_image for n, s in stages.items() if n not in ("images", "attack")}
    draws = {"evaluate": chain.n_draws}
    spent = [t / draws.get(n, 1) for n, t in timed.items() if t is not None]
    return sum(spent) if len(spent) == len(timed) else None


def _by_the_attack(attack: Stage, start: int, stop: int) -> dict[Measured, np.ndarray]:
    """How right a defence is by what the attack itself judged, on the way and at its end."""
    arrays = attack.manifest["arrays"]

    def read(name: str) -> np.ndarray:
        return attack.read(name, start, stop)

    right: dict[Measured, np.ndarray] = {"attack": 1.0 - read("success")}
    if "clean_success" in arrays:
        right["attack-on-clean"] = 1.0 - read("clean_success")
    if "wrong" in arrays:
        right |= judged_in_loop(read("wrong"), read("voted_wrong"))
        control = read("control_wrong"), read("control_voted_wrong")
        right |= {ON_CLEAN[rule]: own for rule, own in judged_in_loop(*control).items()}
    return right


def _squared_errors(final: Stage, clean: Stage, start: int, stop: int) -> np.ndarray:
    """Mean squared error of every image of some, (n,), on [0, 1]."""
    errors = []
    for first in range(start, min(stop, clean.count), IMAGES):
        last = min(first + IMAGES, stop)
        a, b = (store.read("images", first, last) for store in (final, clean))
        errors.append(((a - b) ** 2).mean(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(errors)


def check_verdict(track: Config, where: str, evaluation: Evaluation, chain: Chain) -> None:
    """Refuse to judge a chain by its attack's own verdict where that is of something else, or none.

    Raises:
        UserError: the attack goes through another victim, or has no answers in its loop.
    """
    rule, attack = evaluation.rule, chain.attack
    if rule in get_args(OfAnswers):
        return
    if not chain.adaptive:
        raise UserError(
            f"{where}: {attack} goes through {chain.victim}, so its own verdict (rule `{rule}`) is "
            "not about this defence; name another evaluation"
        )
    served = track.why_unavailable("attack", attack) is None
    if rule in ON_CLEAN and served and "n_eval" not in track.part("attack", attack).options:
        raise UserError(
            f"{where}: {attack} has no n_eval, so no answers in its loop (rule `{rule}`); give it "
            "one, or name another evaluation"
        )


def outcomes(
    evaluation: Evaluation, clean: Measures, attacked: list[Measures]
) -> dict[str, np.ndarray]:
    """How right a defence is about each image, (n,) in [0, 1]: `standard` and `robust`.

    Args:
        evaluation: how it is judged.
        clean: of the chain of clean images.
        attacked: of the chain of each attack, of which the worst counts; in the loop of each, the
            clean images have as many draws, of which the worst counts too. Whether an image that is
            wrong without an attack can be robust is the attack's own to say (auto-attack's verdict:
            no; answers to its images: yes), for one attack as for several.
    """
    rule = evaluation.rule
    rights = [threat.by(rule) for threat in attacked]
    if rule in ON_CLEAN and evaluation.clean is None:
        standard = np.min([threat.right[ON_CLEAN[rule]] for threat in attacked], axis=0)
    else:
        of_clean = "average" if rule in ("attack", "others") else rule
        standard = clean.by(evaluation.clean or of_clean)
    worst = min(rights, key=np.mean) if evaluation.minimum == "attack" else np.min(rights, axis=0)
    return {"standard": standard, "robust": worst}


def why_failed(rule: Rule, clean: Measures, attacked: Measures) -> str | None:
    """How an attack failed that helped the defence; None if it did not, beyond chance.

    It did if the 95 % interval of what it adds to the accuracy lies above zero: of the same images,
    the same draws and the same rule. The vote, the worst draw and the attack's own verdict say less
    of ten answers than their mean, which is compared in their place.
    """
    single = rule if rule in ("first", "others") else "average"
    under, without = attacked.by(single), clean.by(single)
    gain = compare(under, without)
    if gain.side != 1:
        return None
    low, high = gain.interval
    bounds = f"{100 * gain.difference:.1f} more, {100 * low:.1f} to {100 * high:.1f}"
    shares = f"{100 * under.mean():.1f} % of answers are right under it, {100 * without.mean():.1f}"
    return f"{shares} without ({bounds})"
