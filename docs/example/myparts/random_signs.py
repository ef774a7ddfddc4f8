"""An attack that knows nothing: each value moves by eps, up or down by chance.

A control: what it finds, needs no gradient.
"""

import torch

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Attack, Batch, State, no_queries
from puriflow.options import Length


class RandomSigns(Attack):
    """One step, without a query of the victim."""

    n_steps = 1

    def __init__(self, ball: Ball):
        self.ball = ball

    def begin(self, batch: Batch) -> State:
        """The clean images."""
        return {"x_adv": batch.images, "queries": no_queries(batch.images)}

    def step(self, batch: Batch, state: State, number: int) -> State:
        """All values moved, by the noise of their image."""
        noise = batch.noise.attacker(f"random-signs {number}").normal_like(batch.images)
        moved = batch.images + self.ball.eps * torch.sign(noise)
        return {**state, "x_adv": self.ball.project(moved, batch.images)}


def build(*, eps: Length) -> RandomSigns:
    """A radius `eps` of Linf, on [0, 1]."""
    return RandomSigns(Ball(fraction(eps)))
