"""What an attack makes of one image, and what each part of a defence makes of that.

Every request is bounded: one image of the classifier's own size, few steps, and a limit of seconds
after which an attack begins no further step but hands in what it has.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from puriflow.attacks import pgd, square
from puriflow.attacks.base import Attack, Batch, State
from puriflow.config import NONE, Config
from puriflow.datasets.reading import open_picture, read_image
from puriflow.defence import Defence
from puriflow.errors import UserError, unknown
from puriflow.image_files.comparison import ImageClassifier
from puriflow.options import ODESolver, SDESolver
from puriflow.randomness import PURIFY, AttackNoise, ImageNoise
from puriflow.registry import Part

BEHIND_RESULTS = False
ENTRY = "as its entry says"
SOLVERS = (ENTRY, *get_args(SDESolver), *get_args(ODESolver))
MOST_EPS, MOST_STEPS, MOST_T = 16, 40, 250  # in 255ths; of an attack; of t'
DRAWS, EOT, QUERIES = 4, 2, 10  # answers to the attacked image; draws, and queries, of a step
LIMIT = 60.0  # seconds in which an attack begins a step; and a further answer is drawn
LARGEST = 2**24  # pixels of a picture
DATASETS = {10: "cifar10", 1000: "imagenet"}  # of a classifier of so many classes
# The attacks by name: what they differentiate of the defence; None of a black box.
ATTACKS: dict[str, str | None] = {
    NONE: NONE,
    "PGD on the classifier alone": "blind",
    "PGD+EOT through the defence, as the identity (BPDA)": "identity",
    "PGD+EOT through the defence, exact gradient": "full",
    "Square on the defence, a black box": None,
}


@dataclass(frozen=True)
class Asked:
    """What one request asks for; names are the track's.

    Attributes:
        t: level of the purifier in place of its entry's; 0 for that.
        solver: in place of its entry's; `ENTRY` for that.
        eps: of the attack, in 255ths.
        steps: of the attack.
    """

    classifier: str
    restorer: str = NONE
    purifier: str = NONE
    t: int = 0
    solver: str = ENTRY
    attack: str = NONE
    eps: float = 8
    steps: int = 10

    def check(self) -> None:
        """Refuse what is out of bounds, whoever asks.

        Raises:
            UserError: the first thing that is.
        """
        if self.attack not in ATTACKS:
            raise unknown("attack", self.attack, ATTACKS)
        if self.solver not in SOLVERS:
            raise unknown("solver", self.solver, SOLVERS)
        bounds = (("eps", 0, MOST_EPS), ("steps", 1, MOST_STEPS), ("t", 0, MOST_T))
        for name, low, high in bounds:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"{name} is {value!r:.40}, but must be from {low} to {high}")


class Seen(NamedTuple):
    """An image (3, H, W) on [0, 1] behind a stage: the classifier's answer, and the seconds."""

    what: str
    image: np.ndarray
    answer: str
    confidence: float
    seconds: float


@dataclass
class Tried:
    """What came out: the stages in order, fresh answers to the attacked image, and remarks."""

    label: str
    stages: list[Seen] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class TimeIsUpError(Exception):
    """An attack has had its seconds."""


class Bench:
    """The parts of a track, built when they are first asked for.

    Args:
        track: that has them.
        device: to compute on.
        limit: seconds in which an attack begins a step, and the defence a further answer.
    """

    def __init__(self, track: Config, device: torch.device, limit: float = LIMIT):
        self.track, self.device, self.limit = track, device, limit
        self.classifier = cache(self._classifier)
        self.samples = cache(self._samples)

    def names(self, role: str) -> list[str]:
        """The names of a role that the track can serve."""
        sections = {"classifier": "classifiers", "restorer": "restorers", "purifier": "purifiers"}
        entries = getattr(self.track, sections[role])
        return [name for name in entries if self.track.why_unavailable(role, name) is None]

    def _classifier(self, name: str) -> ImageClassifier:
        return ImageClassifier(self.track.part("classifier", name), self.device)

    def _samples(self, classifier: str) -> Any:
        """The data set whose classes a classifier knows; None if the track has none of it here."""
        name = DATASETS[len(self.classifier(classifier).names)]
        try:
            return self.track.part("dataset", name).build()
        except UserError:
            return None

    def sample(self, classifier: str, number: int) -> tuple[Tensor, int]:
        """An image (1, 3, H, W) of the classifier's data set, and its label."""
        samples = self.samples(classifier)
        if samples is None or not 0 <= number < len(samples.labels):
            raise UserError(f"there is no image {number} of the data of {classifier}: give a file")
        return torch.from_numpy(samples.image(number))[None], int(samples.labels[number])

    def opened(self, file: Path) -> Tensor:
        """A picture file as an image (1, 3, H, W).

        Raises:
            UserError: it is none, or has too many pixels.
        """
        with open_picture(file) as picture:
            if picture.width * picture.height > LARGEST:
                raise UserError(f"image {file.name} has more than {LARGEST} pixels")
        return torch.from_numpy(read_image(file)[None] / np.float32(255))

    def purifier(self, asked: Asked) -> Part | None:
        """The purifier with another t' or solver, where its kind has one.

        Raises:
            UserError: it has none.
        """
        if asked.purifier == NONE:
            return None
        part = self.track.part("purifier", asked.purifier)
        changed: dict[str, Any] = {} if asked.t == 0 else {"t": int(asked.t)}
        if asked.solver != ENTRY:
            changed["solver"] = asked.solver
        for option in changed:
            if option not in part.known.options:
                raise UserError(f"purifier {asked.purifier} ({part.kind}) has no {option}")
        kept = dict(part.options)
        if "solver" in changed and changed["solver"] != kept.get("solver"):
            kept = {k: v for k, v in kept.items() if k not in ("correction", "evaluations")}
        return replace(part, options={**kept, **changed})

    def defence(self, asked: Asked) -> Defence:
        """The defence of a request."""
        part = self.purifier(asked)
        restorer = None
        if asked.restorer != NONE:
            restorer = self.track.part("restorer", asked.restorer).build()
        purifier = None if part is None else part.build()
        classifier = self.classifier(asked.classifier).classifier
        return Defence(restorer, purifier, classifier, seed=self.track.seed).to(self.device)

    def tried(self, image: Tensor, label: int | None, asked: Asked) -> Tried:
        """What becomes of an image (1, 3, H, W) of any size; a label of None is the answer to it.

        Raises:
            UserError: a part is unknown or does not take the image, or a number is out of bounds.
        """
        asked.check()
        eyes, defence = self.classifier(asked.classifier), self.defence(asked)
        x = eyes.resized(image.to(self.device))
        clean = self._seen("clean", eyes, lambda: x)
        own = eyes.names.index(clean.answer) if label is None else label
        found = Tried(eyes.names[own], [clean])
        if label is None:
            found.notes.append("Nobody said what is on it, so the attack is on the first answer.")
        if asked.attack != NONE:
            made = partial(self._attacked, x, own, defence, asked, found)
            seen = self._seen("attacked", eyes, made)
            found.stages.append(seen)
            x = torch.from_numpy(seen.image)[None].to(self.device)
        self._defended(x, defence, eyes, found)
        return found

    def _defended(self, x: Tensor, defence: Defence, eyes: ImageClassifier, found: Tried) -> None:
        """Add what the restorer and the purifier make of an image, and the defence's answers."""
        restored = x
        with torch.no_grad():
            if defence.restorer is not None:
                found.stages.append(self._seen("restored", eyes, lambda: defence.restorer(x)))
                restored = torch.from_numpy(found.stages[-1].image)[None].to(self.device)
            if defence.purifier is None:
                return
            end = time.monotonic() + self.limit
            for draw in range(DRAWS):
                if draw and time.monotonic() > end:
                    found.notes.append(f"Fewer answers than {DRAWS}: each takes long.")
                    break
                noise = ImageNoise(defence.seed, PURIFY, [0], [draw])
                seen = self._seen("purified", eyes, lambda n=noise: defence.purifier(restored, n))
                found.answers.append(seen.answer)
                if draw == 0:
                    found.stages.append(seen)

    def _seen(self, what: str, eyes: ImageClassifier, make: Callable[[], Tensor]) -> Seen:
        """An image that is made, with the classifier's answer to it as it is."""
        start = time.perf_counter()
        made = make().detach().cpu()
        seconds = time.perf_counter() - start
        answer, confidence = eyes(made[0].numpy())
        return Seen(what, made[0].numpy(), answer, confidence, seconds)

    def _attacked(
        self, x: Tensor, label: int, defence: Defence, asked: Asked, found: Tried
    ) -> Tensor:
        """The adversarial image (1, 3, H, W), of as many steps as the time allows."""
        if asked.eps == 0:
            return x
        gradient = ATTACKS[asked.attack]
        blind = gradient == "blind"
        victim = Defence(None, None, defence.classifier) if blind else defence
        noise = AttackNoise(defence.seed, [0])
        labels = torch.tensor([label], device=self.device)
        last: list[State] = []
        end = time.monotonic() + self.limit

        def on_time(state: State, done: int) -> None:
            last[:] = [state]
            if time.monotonic() > end and done < attack.n_steps:
                found.notes.append(
                    f"The attack was stopped after {done} of {attack.n_steps} steps, at "
                    f"{self.limit:g} s: a longer one may find more."
                )
                raise TimeIsUpError

        attack = _attack(gradient, asked, random=not blind and defence.purifier is not None)
        with suppress(TimeIsUpError):
            last[:] = [attack(Batch(victim, x, labels, noise), callback=on_time)]
        return last[0]["x_adv"]


def _attack(gradient: str | None, asked: Asked, *, random: bool) -> Attack:
    """The attack of a request."""
    eps = asked.eps / 255
    if gradient is None:
        return square.build(eps=eps, n_queries=QUERIES * int(asked.steps))
    own: Any = "full" if gradient == "blind" else gradient
    return pgd.build(
        eps=eps,
        step_size=max(eps / 4, 2.5 * eps / asked.steps) if asked.steps > 1 else eps,
        n_iter=int(asked.steps),
        random_start=False,
        eot_iter=EOT if random else 1,
        gradient=own,
    )
