"""What every attack is: a state advanced step by step, so that a killed attack goes on.

An attack works on a `Batch`: a victim with images, labels and the noise of every image. All that
it draws is seeded by (seed, image, step, draw), so a state of tensors and a number of steps are all
that has to be saved to go on as if nothing had happened.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.ball import Ball
from puriflow.compute import folded
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.fitting import check_finite, check_labels
from puriflow.options import Gradient
from puriflow.randomness import AttackNoise

GRADIENTS = "gradients of the attack's loss"
# By name, a tensor with a row for each image. `x_adv` (N, 3, H, W): the adversarial images so far.
# `queries` (N,) int64: passes of the victim over each image. `success` (N,) bool, where the attack
# itself judges, and `clean_success` where it judges the clean image too. And what it needs besides.
State = dict[str, Tensor]
Saved = tuple[State, int]  # a state, and how many steps led to it
Callback = Callable[[State, int], None]


@dataclass(frozen=True)
class Batch:
    """A batch under attack.

    Attributes:
        victim: a bare classifier is one without restorer and purifier.
        images: clean (N, 3, H, W) in [0, 1].
        labels: (N,) int64.
        noise: of the attacker and of the victim.

    Raises:
        UserError: labels are something else; one-hot ones the cross-entropy would take for others.
    """

    victim: Defence
    images: Tensor
    labels: Tensor
    noise: AttackNoise

    def __post_init__(self) -> None:
        due, found = (len(self.images),), tuple(self.labels.shape)
        if self.labels.dtype != torch.int64 or found != due:
            given = str(self.labels.dtype).removeprefix("torch.")
            raise UserError(f"labels must be int64 {due}, a class each, but are {given} {found}")

    def take(self, positions: Sequence[int]) -> "Batch":
        """The same for some of the images."""
        chosen = torch.as_tensor(positions, dtype=torch.int64, device=self.images.device)
        noise = self.noise.take(positions)
        return Batch(self.victim, self.images[chosen], self.labels[chosen], noise)

    def logits(
        self, x: Tensor, step: str, draws: Sequence[int] = (0,), gradient: Gradient = "full"
    ) -> Tensor:
        """The victim's logits (draws * N, classes) of x, with the noise of a step of the attack.

        Args:
            x: (N, 3, H, W) in place of the clean images.
            step: the word of the step that seeds the noise.
            draws: numbers of the repetitions (EOT, votes); the logits are in their order.
            gradient: see `Defence.purified`.
        """
        return self.classify(self.purified(x, step, draws, gradient))

    def purified(
        self, x: Tensor, step: str, draws: Sequence[int] = (0,), gradient: Gradient = "full"
    ) -> Tensor:
        """What the victim's classifier is given of x, (draws * N, 3, H, W); see `logits`."""
        copies = x.repeat(len(draws), 1, 1, 1)
        return self.victim.purified(copies, self.noise.victim(step, draws), gradient)

    def classify(self, purified: Tensor) -> Tensor:
        """The victim's logits of purified images, (N, classes) or of as many draws as they are.

        Raises:
            UserError: a label is none of the classes, or a logit is NaN or infinite.
        """
        logits = self.victim.classify(purified)
        check_finite(logits, "the victim's logits")
        check_labels(self.labels, logits.shape[1])
        return logits


class Attack(ABC):
    """An attack.

    Attributes:
        ball: what the adversarial images stay in.
        n_steps: how often `step` is called.
        fixed: every draw of the victim is the one that the purify stage will use, as if the
            attacker knew its seed.
    """

    ball: Ball
    n_steps: int
    fixed: bool = False

    @abstractmethod
    def begin(self, batch: Batch) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, batch: Batch, state: State, number: int) -> State:
        """The state after step `number`, counted from 0."""

    def point(self, state: State) -> Tensor:
        """Where the attack is, (N, 3, H, W): what is evaluated in its loop."""
        return state["x_adv"]

    def __call__(
        self, batch: Batch, callback: Callback | None = None, saved: Saved | None = None
    ) -> State:
        """Run the attack, until all images are successes where it judges itself.

        Args:
            batch: to attack.
            callback: called after every step with the state and the number of steps done.
            saved: what an earlier run gave its callback, to go on from.
        """
        self.ball.check_images(batch.images)
        state, done = (self.begin(batch), 0) if saved is None else saved
        for number in range(done, self.n_steps):
            if "success" in state and state["success"].all():
                break
            state = self.step(batch, state, number)
            if callback is not None:
                callback(state, number + 1)
        return state


def no_queries(images: Tensor) -> Tensor:
    """Queries before the first: zeros (N,)."""
    return torch.zeros(len(images), dtype=torch.int64, device=images.device)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def eot_gradient(
    loss_and_logits: Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]],
    x: Tensor,
    eot_iter: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean gradient at x over draws of a random victim (EOT, Athalye et al. 2018).

    It is summed group by group (see `folded`), so that memory does not grow with their number.

    Args:
        loss_and_logits: of images and numbers of draws; (draws * N,) and (draws * N, classes).
        x: (N, 3, H, W).
        eot_iter: how many draws.

    Returns:
        The mean gradient (N, 3, H, W) between the loss (N,) and the logits of the last draw.

    Raises:
        NotFinite: it has NaN or infinity. The sign of NaN is 0, so that an attack would stand still
            where it is, and the defence would look robust.
    """
    total, loss, logits = torch.zeros_like(x), x, x
    for draws in folded(x, range(eot_iter)):
        y = x.detach().requires_grad_()
        loss, logits = loss_and_logits(y, draws)
        total += torch.autograd.grad(loss.sum(), y)[0]
    check_finite(total, GRADIENTS)
    return loss.detach()[-len(x) :], total / eot_iter, logits.detach()[-len(x) :]


def advance(
    batch: Batch, state: State, where: Tensor, step: Callable[[Batch, State], State]
) -> State:
    """Advance only the images of a flag (N,), if there are any, by a step of their state."""
    chosen = torch.nonzero(where).flatten()
    if len(chosen) == 0:
        return state
    part = step(batch.take(chosen.tolist()), {key: value[chosen] for key, value in state.items()})
    return {key: value.index_copy(0, chosen, part[key]) for key, value in state.items()}


def advance_rest(batch: Batch, state: State, step: Callable[[Batch, State], State]) -> State:
    """Advance only the images that are no success yet."""
    return advance(batch, state, ~state["success"], step)


def choose(where: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Images of x where a flag of each (N,) says so, and else of another batch."""
    return torch.where(where[:, None, None, None], x, other)
