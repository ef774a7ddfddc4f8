"""BPDA+EOT (Athalye et al. 2018; Hill et al. 2021) by DiffPure's protocol (paper, section 5.1).

Each step purifies several copies of the image, takes the gradient of the cross-entropy of their
mean logits with respect to the purified copies as if purifying changed nothing, and steps by the
sign of its mean. An image is a success at a step if the mean logits of these copies are wrong and
those of many fresh ones are wrong too; once it is, it stays so (the worst case over steps).

ScoreOpt's PGD+EOT is judged in the very same way, but takes its gradient elsewhere: of the mean
logits of copies through one-shot denoising, the surrogate of its optimisation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import (
    GRADIENTS,
    Attack,
    Batch,
    State,
    choose,
    cross_entropy,
    no_queries,
)
from puriflow.compute import folded
from puriflow.errors import unknown
from puriflow.fitting import check_finite
from puriflow.options import Count, Length, Step, check_counts
from puriflow.randomness import AGAIN, SURROGATE

Through = Literal["identity", "restorer", "surrogate", "full"]


@dataclass
class BPDAEOT(Attack):
    """The attack.

    Args:
        ball: Linf.
        step_size: on [0, 1].
        n_iter: steps of the gradient; one more evaluation follows the last.
        eot_iter: copies of a gradient (DiffPure's `eot_attack_reps`).
        n_draws: fresh copies that confirm a success (`eot_defense_reps`).
        gradient: `identity` (BPDA) for restorer and purifier, or `restorer`: the identity for the
            purifier alone, and the exact gradient of the restorer; or `surrogate`: exact, through
            the restorer and the purifier's own surrogate (ScoreOpt has one); or `full`: exact,
            through all of the victim, of the copies that are judged. What is judged, and counted as
            queries, is the victim itself.
    """

    ball: Ball
    step_size: float
    n_iter: int
    eot_iter: int
    n_draws: int
    gradient: Through = "identity"

    def __post_init__(self) -> None:
        if self.gradient not in get_args(Through):
            raise unknown("gradient of bpda-eot", self.gradient, get_args(Through))
        self.ball.check_step(self.step_size)
        check_counts(n_iter=self.n_iter, eot_iter=self.eot_iter, n_draws=self.n_draws)
        self.n_steps = self.n_iter + 1

    def begin(self, batch: Batch) -> State:
        """`x` is where the attack is; `x_adv` where an image was a success, or x."""
        if self.gradient == "surrogate":
            batch.victim.surrogate()  # before the first query, if there is none
        queries = no_queries(batch.images)
        none = torch.zeros_like(queries, dtype=torch.bool)
        return {
            "x_adv": batch.images,
            "queries": queries,
            "success": none,
            "clean_success": none,  # that of step 0
            "x": batch.images,
        }

    def step(self, batch: Batch, state: State, number: int) -> State:
        """Evaluate x, confirm successes among the images that are none yet, and step from x."""
        x, success = state["x"], state["success"]
        with torch.no_grad():
            copies = [
                batch.purified(x, f"{number}", draws) for draws in folded(x, range(self.eot_iter))
            ]
            mean = _mean([batch.classify(some) for some in copies], len(x))
        queries = state["queries"] + self.eot_iter
        confirmed = torch.zeros_like(success)
        doubtful = torch.nonzero(~success & (mean.argmax(1) != batch.labels)).flatten()
        for i in doubtful.tolist():
            confirmed[i] = self._confirm(batch.take([i]), x[i : i + 1], number)
            queries[i] += self.n_draws
        if self.gradient == "surrogate":
            grad = self.surrogate_gradient(batch, x, number)
        elif self.gradient == "full":
            grad = self.exact_gradient(batch, x, mean, number)
        else:
            grad = self.mean_gradient(batch, copies, mean)
        if self.gradient == "restorer" and batch.victim.restorer is not None:
            y = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(batch.victim.restorer(y), y, grad)
        check_finite(grad, GRADIENTS)
        return {
            "x_adv": choose(success, state["x_adv"], x),
            "queries": queries,
            "success": success | confirmed,
            "clean_success": state["clean_success"] if number else confirmed,
            "x": self.ball.sign_step(x, grad, self.step_size, batch.images),
        }

    def mean_gradient(self, batch: Batch, copies: Sequence[Tensor], mean: Tensor) -> Tensor:
        """Of purified copies, in groups of draws, and their mean logits, the gradient at them."""
        return self._of_mean(batch, copies, mean, lambda some, _: batch.classify(some))

    def exact_gradient(self, batch: Batch, x: Tensor, mean: Tensor, number: int) -> Tensor:
        """The gradient at x through the victim, with the noise of the copies of a step.

        `mean` (N, classes) are their mean logits.
        """

        def logits(y: Tensor, draws: Sequence[int]) -> Tensor:
            return batch.logits(y, f"{number}", draws)

        groups = list(folded(x, range(self.eot_iter)))
        return self._of_mean(batch, [x] * len(groups), mean, logits)

    def surrogate_gradient(self, batch: Batch, x: Tensor, number: int) -> Tensor:
        """The gradient at copies of x, which the surrogate purifies with noise of its own."""
        instead = replace(batch, victim=batch.victim.surrogate())

        def logits(y: Tensor, draws: Sequence[int]) -> Tensor:
            return instead.logits(y, f"{number} {SURROGATE}", draws)

        groups = list(folded(x, range(self.eot_iter)))
        with torch.no_grad():
            mean = _mean([logits(x, draws) for draws in groups], len(x))
        return self._of_mean(batch, [x] * len(groups), mean, logits)

    def _of_mean(
        self,
        batch: Batch,
        points: Sequence[Tensor],
        mean: Tensor,
        logits: Callable[[Tensor, Sequence[int]], Tensor],
    ) -> Tensor:
        """The mean over copies of the gradient of the cross-entropy of their mean logits.

        It is taken group by group, so that memory does not grow with the number of copies.

        Args:
            batch: with the labels.
            points: of each group, where the gradient is taken: at its copies (draws * N, 3, H, W),
                or at the images (N, 3, H, W) that all have in common.
            mean: the mean logits (N, classes).
            logits: of a point and the numbers of its draws, (draws * N, classes).
        """
        mean = mean.requires_grad_()
        (of_mean,) = torch.autograd.grad(cross_entropy(mean, batch.labels).sum(), mean)
        total = torch.zeros_like(batch.images)
        for y, draws in zip(points, folded(total, range(self.eot_iter)), strict=True):
            y = y.detach().requires_grad_()
            weights = (of_mean / self.eot_iter).repeat(len(draws), 1)
            (grad,) = torch.autograd.grad(logits(y, draws), y, weights)
            total += grad.unflatten(0, (-1, len(total))).sum(0)
        return total / self.eot_iter

    @torch.no_grad()
    def _confirm(self, batch: Batch, x: Tensor, number: int) -> bool:
        """Whether the mean logits of fresh draws of one image are wrong as well."""
        step, groups = f"{number} {AGAIN}", folded(x, range(self.n_draws))
        mean = _mean([batch.logits(x, step, draws) for draws in groups], len(x))
        return bool(mean.argmax(1)[0] != batch.labels[0])


def _mean(logits: Sequence[Tensor], n: int) -> Tensor:
    """The mean (n, classes) over draws, of groups (draws * n, classes) of them."""
    return torch.cat(list(logits)).unflatten(0, (-1, n)).mean(0)


def build(
    *,
    eps: Length,
    step_size: Step = "2/255",
    n_iter: Count = 50,
    eot_iter: Count = 15,
    n_draws: Count = 150,
    gradient: Literal["identity", "restorer", "surrogate", "full"] = "identity",
) -> BPDAEOT:
    """BPDA+EOT in the Linf ball; the default numbers are DiffPure's.

    `gradient: restorer` differentiates the restorer, which DiffPure has none of. With `surrogate`,
    20 for `n_iter` and `eot_iter`, it is ScoreOpt's PGD+EOT. With `full` nothing is approximated.
    """
    return BPDAEOT(Ball(fraction(eps)), fraction(step_size), n_iter, eot_iter, n_draws, gradient)
