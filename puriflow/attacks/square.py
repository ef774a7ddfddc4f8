"""Square (Andriushchenko et al. 2020): random search with windows, without any gradient.

The start is vertical stripes of +-eps; every query then shifts one square window, each channel by
+-2 eps, and keeps the change if it lowers the margin. As in auto-attack the windows shrink by a
schedule that is not rescaled to the number of queries, an image is left alone once it was
misclassified, and a fresh pass over what became of each is the verdict. There one window and its
signs serve the whole batch; here each image has its own, so that its attack does not depend on its
batch.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from torch import Tensor

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Batch, State, advance, advance_rest, choose
from puriflow.attacks.votes import JudgedAttack
from puriflow.errors import UserError
from puriflow.options import Count, JudgedGradient, Length, Norm, check_counts, real
from puriflow.randomness import AGAIN, CLEAN, SQUARE

# The share p of pixels in a window is halved after each of these queries.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def side(query: int, pixels: int, p_init: float) -> int:
    """Side of the window of a query, counted from 0, in an image of so many pixels."""
    p = p_init / 2 ** sum(query > last for last in HALVED_AFTER)
    return max(round(math.sqrt(p * pixels)), 1)


@dataclass
class Square(JudgedAttack):
    """The attack. A step is one query of the images that are left; the first is of the stripes.

    The last step asks again, of every image. `x_adv` is its image of the lowest margin.

    Args:
        ball: Linf.
        votes, gradient, fixed: see `JudgedAttack`. A misclassification that is voted down is no
            progress either: its margin was luck, and no honest one would fall below it again.
        n_queries: windows tried; the clean image, the stripes and the last pass are queries too.
        p_init: share of the pixels that the first windows have.
    """

    name = SQUARE  # which seeds its noise

    _: KW_ONLY
    n_queries: int = 5000
    p_init: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ball.norm != "Linf":
            raise UserError(f"square is for the norm Linf, not {self.ball.norm}")
        check_counts(n_queries=self.n_queries)
        self.n_steps = 1 + self.n_queries + 1

    def begin(self, batch: Batch) -> State:
        """One pass over the clean images; `margin` (N,) is the lowest so far (0 or less: a hit)."""
        clean, step = batch.images, f"{self.name} {CLEAN}"
        _, wrong, queries = self.judge(batch, clean, step)
        stripes = batch.noise.attacker(self.name).uniform_like(clean[:, :, :1], -1, 1).sign()
        start = (clean + self.ball.eps * stripes).clamp(0, 1)
        return {
            "x_adv": choose(wrong, clean, start),
            "queries": queries,
            "success": wrong,
            "margin": clean.new_full((len(clean),), torch.inf),
        }

    def step(self, batch: Batch, state: State, number: int) -> State:
        if number > self.n_queries:
            return advance_rest(batch, state, self._ask_again)
        left = ~state["success"] & (state["margin"] > 0)
        return advance(batch, state, left, lambda some, part: self._query(some, part, number))

    @torch.no_grad()
    def _query(self, batch: Batch, state: State, number: int) -> State:
        """Try one change of each image."""
        best, step = state["x_adv"], f"{self.name} {number}"
        x = best if number == 0 else self._shift_window(batch, best, number)
        logits = batch.logits(x, step, gradient=self.gradient)
        wrong = logits.argmax(1) != batch.labels
        hit, votes = self.confirm(batch, x, wrong, step)
        z_y = logits.gather(1, batch.labels[:, None])[:, 0]
        margin = z_y - logits.scatter(1, batch.labels[:, None], -torch.inf).amax(1)
        better = hit | (~wrong & (margin < state["margin"]))
        return {
            "x_adv": choose(better, x, best),
            "queries": state["queries"] + 1 + votes,
            "success": state["success"],
            "margin": torch.where(better, margin, state["margin"]),
        }

    def _ask_again(self, batch: Batch, state: State) -> State:
        """The verdict: one lucky answer to a query is no success yet."""
        _, success, queries = self.judge(batch, state["x_adv"], f"{self.name} {AGAIN}")
        return state | {"queries": state["queries"] + queries, "success": success}

    def _shift_window(self, batch: Batch, x: Tensor, number: int) -> Tensor:
        """Each image with a window of its own shifted, back in the ball."""
        height, width = x.shape[2:]
        s = side(number - 1, height * width, self.p_init)
        noise = batch.noise.attacker(f"{self.name} {number}")
        # as in auto-attack, the last place is never drawn
        rows, columns = (
            _interval(noise.integers(0, max(length - s, 1)), s, length).to(x.device)
            for length in (height, width)
        )
        signs = noise.uniform_like(x[:, :, 0, 0], -1, 1).sign()[:, :, None, None]
        window = (rows[:, :, None] & columns[:, None, :])[:, None]
        return self.ball.project(x + 2 * self.ball.eps * signs * window, batch.images)


def _interval(first: Tensor, size: int, length: int) -> Tensor:
    """Which of `length` places are among the `size` from `first` (N,) on: (N, length) bool."""
    place = torch.arange(length)
    return (place >= first[:, None]) & (place < first[:, None] + size)


def build(
    *,
    eps: Length,
    norm: Norm = "Linf",
    n_queries: Count = 5000,
    p_init: Annotated[float, real(1e-9, 1)] = 0.8,
    votes: Count = 1,
    gradient: JudgedGradient = "full",
    fixed: bool = False,
) -> Square:
    """Square; the default numbers are auto-attack's. See `Square` for the options."""
    return Square(
        Ball(fraction(eps), norm),
        n_queries=n_queries,
        p_init=p_init,
        votes=votes,
        gradient=gradient,
        fixed=fixed,
    )
