"""What every attack is: a state advanced step by step, so that a killed attack goes on.

An attack works on a `Target`: a victim with images, labels and the noise of every image. All that
it draws is seeded by (seed, image, step, draw), so a state of tensors and a step number are all
that has to be kept to go on as if nothing had happened.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.attacks.ball import Ball
from puriflow.defence import Defence, Gradient
from puriflow.randomness import Draws

# `found` (N, 3, H, W): the adversarial images so far. `queries` (N,) int64: how often the victim
# was asked about each image. `broken` (N,) bool where the attack itself judges. And its own.
State = dict[str, Tensor]
Keep = Callable[[State, int], None]


@dataclass(frozen=True)
class Target:
    """A victim and what is asked of it.

    Attributes:
        defence: the victim; a bare classifier is a defence without restorer and purifier.
        images: clean (N, 3, H, W) in [0, 1].
        labels: (N,) int64.
        draws: all noise, of the victim and of the attack.
    """

    defence: Defence
    images: Tensor
    labels: Tensor
    draws: Draws

    def take(self, positions: Sequence[int]) -> "Target":
        """The same for some of the images."""
        chosen = torch.as_tensor(positions, dtype=torch.int64, device=self.images.device)
        draws = self.draws.take(positions)
        return Target(self.defence, self.images[chosen], self.labels[chosen], draws)

    def logits(self, x: Tensor, step: int | str, draw: int, gradient: Gradient = "full") -> Tensor:
        """Logits (N, classes) of x in place of the images, with the noise of a step and draw."""
        noise = self.draws.defence(step, draw)
        return self.defence.classifier(self.defence.purified(x, noise, gradient))


class Asked(nn.Module):
    """The victim as libraries want it, a function of images; every call has noise of its own.

    Attributes:
        calls: how often it was called.
    """

    def __init__(self, target: Target, what: str, gradient: Gradient = "full"):
        super().__init__()
        self.target, self.what, self.gradient = target, what, gradient
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        self.calls += 1
        return self.target.logits(images, f"{self.what} {self.calls}", 0, self.gradient)


class Attack(ABC):
    """An attack.

    Attributes:
        ball: what the adversarial images stay in.
        steps: how often `step` is called.
        fixed: every draw of the victim is the one that the purify stage will use, as if the
            attacker knew its seed.
    """

    ball: Ball
    steps: int
    fixed: bool = False

    @abstractmethod
    def begin(self, target: Target) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, target: Target, state: State, number: int) -> State:
        """The state after step `number`, counted from 0."""

    def __call__(
        self, target: Target, keep: Keep | None = None, kept: tuple[State, int] | None = None
    ) -> State:
        """Run the attack.

        Args:
            target: a victim and images.
            keep: called after every step with the state and the number of steps done.
            kept: state and steps done of an earlier run, to go on from.
        """
        state, done = (self.begin(target), 0) if kept is None else kept
        for number in range(done, self.steps):
            if "broken" in state and state["broken"].all():
                break
            state = self.step(target, state, number)
            if keep is not None:
                keep(state, number + 1)
        return state


def none_asked(images: Tensor) -> Tensor:
    """Queries before the first: zeros (N,)."""
    return torch.zeros(len(images), dtype=torch.int64, device=images.device)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each image (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")
