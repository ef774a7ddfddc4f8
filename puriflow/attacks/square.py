"""Square (Andriushchenko et al. 2020): random search with windows, without any gradient.

The start is vertical stripes of +-eps; every query then shifts one square window, each channel by
+-2 eps, and keeps the change if it lowers the margin. As in auto-attack the windows shrink by a
schedule that is not rescaled to the number of queries. There one window and its signs serve the
whole batch; here each image has its own, so that its attack does not depend on its batch.
"""

import math

import torch
from torch import Tensor

from puriflow.attacks.attack import Attack, State, Target
from puriflow.attacks.ball import Ball, Norm, fraction
from puriflow.attacks.votes import confirmed, judged
from puriflow.defence import Gradient, check_gradient
from puriflow.errors import UserError

# The share of pixels in a window is halved after each of these.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def side(query: int, pixels: int, p_init: float) -> int:
    """Side of the window of a query, counted from 0, in an image of so many pixels."""
    share = p_init / 2 ** sum(query > last for last in HALVED_AFTER)
    return max(round(math.sqrt(share * pixels)), 1)


class Square(Attack):
    """The attack. A step is one query of the images that stand; the first asks the stripes.

    Attributes:
        name: tells its draws from those of other attacks.

    Args:
        ball: Linf.
        queries: windows tried; the clean image and the stripes are asked as well.
        p_init: share of the pixels that the first windows have.
        votes: see `confirmed`. A wrong answer that is voted down is no progress either: its margin
            was luck, and no honest one would fall below it again.
        gradient: `blind` asks the classifier alone; the others are one, as no gradient is taken.
        fixed: see `Attack`.

    Raises:
        UserError: the ball is not Linf.
    """

    name = "square"

    def __init__(
        self,
        ball: Ball,
        *,
        queries: int = 5000,
        p_init: float = 0.8,
        votes: int = 1,
        gradient: Gradient = "full",
        fixed: bool = False,
    ):
        if ball.norm != "Linf":
            raise UserError(f"square is for the norm Linf, not {ball.norm}")
        self.ball, self.p_init, self.votes, self.fixed = ball, p_init, votes, fixed
        self.gradient = check_gradient(gradient)
        self.steps = 1 + queries

    def begin(self, target: Target) -> State:
        """See `Attack`: one pass over the clean images; `margin` (N,) is the lowest so far."""
        clean = target.images
        _, wrong, asked = judged(target, clean, "square clean", self.votes, self.gradient)
        stripes = target.draws.start("square").uniform_like(clean[:, :, :1], -1, 1).sign()
        start = (clean + self.ball.eps * stripes).clamp(0, 1)
        return {
            "found": torch.where(wrong[:, None, None, None], clean, start),
            "queries": asked,
            "broken": wrong,
            "margin": clean.new_full((len(clean),), torch.inf),
        }

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`."""
        chosen = torch.nonzero(~state["broken"]).flatten()
        part = {key: value[chosen] for key, value in state.items()}
        part = self._asked(target.take(chosen.tolist()), part, number)
        return {key: value.index_copy(0, chosen, part[key]) for key, value in state.items()}

    @torch.no_grad()
    def _asked(self, target: Target, state: State, number: int) -> State:
        """Try one change of each image."""
        old, step = state["found"], f"square {number}"
        x = old if number == 0 else self._changed(target, old, number)
        logits = target.logits(x, step, 0, self.gradient)
        wrong = logits.argmax(1) != target.labels
        broken, asked = confirmed(target, x, wrong, step, self.votes, self.gradient)
        right = logits.gather(1, target.labels[:, None])[:, 0]
        margin = right - logits.scatter(1, target.labels[:, None], -torch.inf).amax(1)
        better = broken | (~wrong & (margin < state["margin"]))
        return {
            "found": torch.where(better[:, None, None, None], x, old),
            "queries": state["queries"] + 1 + asked,
            "broken": broken,
            "margin": torch.where(better, margin, state["margin"]),
        }

    def _changed(self, target: Target, x: Tensor, number: int) -> Tensor:
        """Each image with a window of its own shifted, back in the ball."""
        height, width = x.shape[2:]
        size = side(number - 1, height * width, self.p_init)
        noise = target.draws.start(f"square {number}")
        # as in auto-attack, the last place is never drawn
        down, across = (
            _stretch(noise.integers(0, max(length - size, 1)), size, length).to(x.device)
            for length in (height, width)
        )
        signs = noise.uniform_like(x[:, :, 0, 0], -1, 1).sign()[:, :, None, None]
        window = (down[:, :, None] & across[:, None, :])[:, None]
        return self.ball.project(x + 2 * self.ball.eps * signs * window, target.images)


def _stretch(first: Tensor, size: int, length: int) -> Tensor:
    """Which of `length` places lie in a stretch from `first` (N,): (N, length) bool."""
    place = torch.arange(length)
    return (place >= first[:, None]) & (place < first[:, None] + size)


def build(
    *,
    eps: str | float,
    norm: Norm = "Linf",
    queries: int = 5000,
    p_init: float = 0.8,
    votes: int = 1,
    gradient: Gradient = "full",
    fixed: bool = False,
) -> Square:
    """Square; the default numbers are auto-attack's. See `Square` for the options."""
    if min(queries, votes) < 1:
        raise UserError("square needs 1 or more queries and votes")
    if not 0 < p_init <= 1:
        raise UserError(f"p_init is {p_init}, but must lie in (0, 1]")
    ball = Ball(fraction(eps), norm)
    return Square(ball, queries=queries, p_init=p_init, votes=votes, gradient=gradient, fixed=fixed)
