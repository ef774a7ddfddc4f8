"""An evaluation under audit: a defence, images, an attack, and how an image is judged.

A random defence is judged by the mean over fresh draws, which no attack has seen; a deterministic
one by its answer. What several checks need is computed once.
"""

import copy
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puriflow.attacks.autoattack import INNER
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack, Batch, State, choose, cross_entropy
from puriflow.attacks.in_loop import InLoop
from puriflow.auditing.modules import varies
from puriflow.auditing.verdicts import Undecidable
from puriflow.compute import folded
from puriflow.errors import NotFinite, UserError

FEW = 6  # images of costly checks: so many can differ beyond chance
DRAWS = 10  # fresh answers that judge an image of a random defence
PATH_DRAWS = 4  # the same at a step of a path
MOST_POINTS, MOST_POINTS_QUICKLY = 100, 25  # of a path
NO_PATH = "the attack cannot run, since no gradient reaches the image"
MEND = "mend the gradient (`graph`)"


class Case:
    """An evaluation.

    Args:
        batch: the defence with images, labels and noise.
        attack: that is judged.
        name: what the attack is called.
        quick: fewer draws of planted answers will do.

    Raises:
        UserError: the defence's answers are no logits, or none of them is right.
    """

    def __init__(self, batch: Batch, attack: Attack, name: str, *, quick: bool = False):
        self.batch, self.attack, self.name, self.quick = batch, attack, name, quick
        with torch.no_grad():
            purified = batch.purified(batch.images, "audit")
            first = batch.victim.classify(purified)
        if first.ndim != 2 or first.shape[1] < 2:
            raise UserError(
                f"the defence's answers are {tuple(first.shape)}, but must be logits (N, classes) "
                "of two classes or more"
            )
        with torch.no_grad():
            first, again = (batch.logits(batch.images, "audit") for _ in range(2))
            few = batch.take(range(min(FEW, len(batch.images))))
            self.random = varies(lambda draw: few.logits(few.images, "audit", (draw,)))
        self.repeatable = torch.equal(first, again)
        self.draws = DRAWS if self.random else 1
        if not self.right_clean.any():
            raise UserError("none of the images is answered right without an attack: which labels?")

    @property
    def ball(self) -> Ball:
        return self.attack.ball

    @property
    def eot_iter(self) -> int:
        """Draws of a gradient of the attack."""
        return int(option(self.attack, "eot_iter") or 1)

    def every_of(self, attack: Attack) -> int:
        """Steps of an attack between two points of its path."""
        return math.ceil(attack.n_steps / (MOST_POINTS_QUICKLY if self.quick else MOST_POINTS))

    def few(self) -> "Case":
        """The same for the first few images."""
        part = copy.copy(self)
        count = min(FEW, len(self.batch.images))
        part.batch = self.batch.take(range(count))
        for name, known in vars(self).items():
            if name in ("right_own", "right_clean"):
                vars(part)[name] = known[:count]
            elif name == "path":
                vars(part)[name] = tuple(one[:count] for one in known)
        return part

    # Attacks, and how they are judged

    def right(self, x: Tensor, batch: Batch | None = None) -> np.ndarray:
        """How right fresh answers to images x are, (n,) in [0, 1]."""
        batch = batch or self.batch
        answers = self.answers(x, range(self.draws), batch)
        return (answers == batch.labels).double().mean(0).cpu().numpy()

    @torch.no_grad()
    def answers(self, x: Tensor, draws: Sequence[int], batch: Batch | None = None) -> Tensor:
        """Classes (draws, n) of images x, by draws that no attack has."""
        batch = batch or self.batch
        found = []
        for some in groups(x):
            part = batch.take(some)
            for numbers in folded(x[some], draws):
                logits = part.logits(x[some], "audit", numbers)
                found.append((some, logits.argmax(1).unflatten(0, (len(numbers), -1))))
        rows = [torch.cat([a for s, a in found if s == some]) for some in groups(x)]
        return torch.cat(rows, 1)

    def attacked(self, attack: Attack, batch: Batch | None = None) -> Tensor:
        """The images that an attack makes of a batch."""
        return self.watched(attack, batch, watch=False)[0]

    @torch.enable_grad()  # whoever asks
    def watched(
        self, attack: Attack, batch: Batch | None = None, *, watch: bool = True
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """The images that an attack makes, the best of its path, and its losses (n, points).

        Raises:
            Undecidable: it has no gradient to go by.
        """
        with needing_gradient():
            return self._watched(attack, batch or self.batch, watch=watch)

    def _watched(
        self, attack: Attack, batch: Batch, *, watch: bool
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        made, best, losses = [], [], []
        for some in groups(batch.images):
            part = batch.take(some)
            path = Path(part, attack, self.random, self.every_of(attack))
            state = attack(part, path if watch else None)
            made.append(state["x_adv"].detach())
            best.append(path.best)
            losses.append(torch.stack(path.losses, 1).cpu().numpy())
        longest = max(one.shape[1] for one in losses)
        padded = [np.pad(o, ((0, 0), (0, longest - o.shape[1])), mode="edge") for o in losses]
        return torch.cat(made), torch.cat(best), np.concatenate(padded)

    @cached_property
    def path(self) -> tuple[Tensor, Tensor, np.ndarray]:
        """Of the attack itself; see `watched`."""
        return self.watched(self.attack)

    @property
    def own(self) -> Tensor:
        """The attack's images."""
        return self.path[0]

    @cached_property
    def right_own(self) -> np.ndarray:
        return self.right(self.own)

    @cached_property
    def right_clean(self) -> np.ndarray:
        return self.right(self.batch.images)

    def right_under(self, attack: Attack, batch: Batch | None = None) -> np.ndarray:
        """How right the defence is under an attack, be it on another victim."""
        _ = self.own  # which says it if there is no gradient
        return self.right(self.attacked(attack, batch))

    def right_under_planted(self, batch: Batch) -> float:
        """How right the victim of another batch is under the attack itself: the mean of its images.

        Raises:
            Undecidable: see `watched`.
        """
        _ = self.own
        return float(self.right(self.attacked(self.attack, batch), batch).mean())

    def cure(self, **options: Any) -> str:
        """How the attack is run with other options."""
        said = ", ".join(f"{key}: {value}" for key, value in options.items())
        if self.name == type(self.attack).__name__:  # an attack that is no entry of a track
            return said
        return f"`attacks: {{{self.name}: {{{said}}}}}` in the track"

    def check_bands(self) -> None:
        """Refuse a check of what only an attack of all bands can reach.

        Raises:
            Undecidable: the attack's perturbations have fewer.
        """
        if self.ball.bands < 1:
            raise Undecidable(
                "what the attack would have to find lies outside its bands",
                "audit the same attack of all bands (bands: 1)",
            )

    def larger(self, *, iterations: int = 1, draws: int = 1) -> str:
        """How the attack is run with so many times its iterations (or queries) and draws."""
        counts = {name: option(self.attack, name) for name in ("n_iter", "n_queries")}
        named = "n_queries" if counts["n_iter"] is None and counts["n_queries"] else "n_iter"
        budget = {}
        if iterations > 1:
            budget[named] = iterations * (counts[named] or self.attack.n_steps)
        if draws > 1 and option(self.attack, "eot_iter"):
            budget["eot_iter"] = draws * self.eot_iter
        return self.cure(**budget) if budget else "it has no option for it"

    def exact_gradient(self) -> str:
        """How the attack is run with the gradient of all of the defence."""
        if option_of(self.attack, "gradient") in (None, "full"):
            return "mend the defence's gradient: the attack takes it as it is"
        return f"attack the exact gradient: {self.cure(gradient='full')}"


def lacks_gradient(error: RuntimeError) -> bool:
    """Whether an error of torch says that no gradient reaches the image."""
    return any(said in str(error) for said in ("require grad", "not have been used"))


@contextmanager
def needing_gradient() -> Generator[None]:
    """What needs a gradient: a check is not decidable where none reaches the image, or is NaN."""
    try:
        yield
    except NotFinite as error:
        raise Undecidable(str(error), MEND) from None
    except RuntimeError as error:
        if lacks_gradient(error):
            raise Undecidable(NO_PATH, MEND) from None
        raise


class Path:
    """What is remembered of an attack on a batch: losses, and the image that fooled most draws."""

    def __init__(self, batch: Batch, attack: Attack, random: bool, every: int):
        self.batch, self.attack, self.draws = batch, attack, range(PATH_DRAWS if random else 1)
        self.every = every
        self.losses: list[Tensor] = []
        self.best = batch.images
        self.score = torch.full(batch.labels.shape, -torch.inf, dtype=torch.float64)
        self.score = self.score.to(batch.labels.device)
        self.look(batch.images)

    def __call__(self, state: State, number: int) -> None:
        if number % self.every == 0:
            self.look(point(self.attack, state).detach())

    @torch.no_grad()
    def look(self, x: Tensor) -> None:
        """Ask about a point of the path, always with the same noise."""
        labels = self.batch.labels.repeat(len(self.draws))
        logits = self.batch.logits(x, "audit path", self.draws)
        losses = cross_entropy(logits, labels).unflatten(0, (len(self.draws), -1)).mean(0)
        wrong = (logits.argmax(1) != labels).double().unflatten(0, (len(self.draws), -1)).mean(0)
        self.losses.append(losses)
        score = wrong + 1e-3 * torch.tanh(losses.double() / 10)
        better = score > self.score
        self.best = choose(better, x, self.best)
        self.score = torch.maximum(score, self.score)


def point(attack: Attack, state: State) -> Tensor:
    """Where an attack is; in AutoAttack, the attack that is under way, on the images left."""
    inner = {key.removeprefix(INNER): v for key, v in state.items() if key.startswith(INNER)}
    if isinstance(attack, InLoop):
        return attack.attack.point(inner)
    x = attack.point(state)
    if inner:
        x = x.clone()
        x[~state["success"]] = inner.get("x", inner["x_adv"])
    return x


def groups(images: Tensor) -> list[Sequence[int]]:
    """Positions of images that are computed at once; see `folded`."""
    return list(folded(images[:1], range(len(images))))


# Attacks with other options


def parts_of(attack: Attack) -> Iterator[Attack]:
    """An attack, or those that it is an ensemble of, or the one that is evaluated in its loop."""
    inner = [attack.attack] if isinstance(attack, InLoop) else getattr(attack, "attacks", None)
    if inner is None:
        yield attack
    else:
        for one in inner:
            yield from parts_of(one)


def option_of(attack: Attack, name: str) -> Any:
    """An option of an attack, or of the first that has it; None if none has."""
    return next((getattr(one, name) for one in parts_of(attack) if hasattr(one, name)), None)


def option(attack: Attack, name: str) -> Any:
    """The largest value of an option; None if the attack has none."""
    values = [getattr(one, name) for one in parts_of(attack) if hasattr(one, name)]
    return max(values) if values else None


def changed(attack: Attack, *, iterations: int = 1, draws: int = 1, eps: float = 0) -> Attack:
    """An attack with so many times its iterations (or queries) and draws, maybe in another ball."""
    old: Any = attack
    new: Any = copy.copy(attack)
    if eps:
        new.ball = replace(old.ball, eps=eps)
        if hasattr(old, "step_size"):
            # as long in proportion, unless shorter steps still cross the ball
            crossing = max(2.5 * eps / old.n_steps, old.step_size)
            new.step_size = min(old.step_size * eps / old.ball.eps, crossing)
    if isinstance(old, InLoop):
        new.attack = changed(old.attack, iterations=iterations, draws=draws, eps=eps)
    if hasattr(old, "attacks"):
        new.attacks = [
            changed(one, iterations=iterations, draws=draws, eps=eps) for one in old.attacks
        ]
    named = [name for name in ("n_iter", "n_queries") if hasattr(old, name)]
    for name in named:
        setattr(new, name, getattr(old, name) * iterations)
    if not named:
        new.n_steps = old.n_steps * iterations
    if hasattr(old, "eot_iter"):
        new.eot_iter = old.eot_iter * draws
    if hasattr(old, "__post_init__"):
        own = {key: value for key, value in vars(old).items() if key in ("name", "min_classes")}
        new.__post_init__()  # what follows from options
        vars(new).update(own)  # of a subclass that has its own
    return new


def differentiated(batch: Batch, attack: Attack) -> tuple[Batch, Any]:
    """What an attack differentiates: a victim, and how (see `Defence.purified`)."""
    gradient, victim = getattr(next(parts_of(attack)), "gradient", "full"), batch.victim
    if gradient != "surrogate" or victim.purifier is None:
        return batch, "full" if gradient == "surrogate" else gradient
    return replace(batch, victim=victim.surrogate()), "full"
