"""When a misclassified image counts as a success: by one pass of the victim, or by several votes.

auto-attack believes the one pass that it happens to make. A random victim that is asked a hundred
times is wrong once by chance, so here a misclassification can be put to a vote of fresh draws.
"""

from dataclasses import KW_ONLY, dataclass
from typing import get_args

import torch
from torch import Tensor

from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack, Batch, no_queries
from puriflow.compute import folded
from puriflow.errors import unknown
from puriflow.options import JudgedGradient, check_counts
from puriflow.randomness import VOTES


@dataclass
class JudgedAttack(Attack):
    """An attack that judges by itself which images are successes.

    Args:
        ball: what it stays in.
        votes: fresh draws of a misclassified image, of which more than half must be wrong for a
            success; with 1, the one pass is believed.
        gradient: see `Defence.purified`, but not `blind`: the verdict would be of the classifier
            alone. (That is the victim of an attack on it.)
        fixed: see `Attack`.
    """

    ball: Ball
    _: KW_ONLY
    votes: int = 1
    gradient: JudgedGradient = "full"
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.gradient not in get_args(JudgedGradient):
            raise unknown("gradient", self.gradient, get_args(JudgedGradient))
        check_counts(votes=self.votes)

    @torch.no_grad()
    def confirm(self, batch: Batch, x: Tensor, wrong: Tensor, step: str) -> tuple[Tensor, Tensor]:
        """Which misclassifications stand (N,), and the queries of the votes (N,).

        Args:
            batch: a victim and images.
            x: (N, 3, H, W) in place of the images.
            wrong: (N,) bool, what one pass misclassified.
            step: the word of the step, which seeds the draws.
        """
        queries = no_queries(x)
        doubtful = torch.nonzero(wrong).flatten()
        if self.votes == 1 or len(doubtful) == 0:
            return wrong, queries
        part = batch.take(doubtful.tolist())
        again, against = x[doubtful], no_queries(part.images)
        for draws in folded(again, range(self.votes)):
            answers = part.logits(again, f"{step} {VOTES}", draws, self.gradient).argmax(1)
            against += (answers.unflatten(0, (len(draws), -1)) != part.labels).sum(0)
        stands = wrong.index_copy(0, doubtful, 2 * against > self.votes)
        return stands, queries.index_fill(0, doubtful, self.votes)

    @torch.no_grad()
    def judge(self, batch: Batch, x: Tensor, step: str) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, classes) of a fresh pass over x, and what `confirm` returns, it counted."""
        logits = batch.logits(x, step, gradient=self.gradient)
        stands, queries = self.confirm(batch, x, logits.argmax(1) != batch.labels, step)
        return logits, stands, queries + 1
