"""BPDA+EOT (Athalye et al. 2018; Hill et al. 2021) by DiffPure's protocol (paper, section 5.1).

Each step purifies several copies of the image, takes the gradient of the cross-entropy of their
mean logits with respect to the purified copies as if purifying changed nothing, and steps by the
sign of its mean. An image is a success at a step if the mean logits of these copies are wrong and
those of many fresh ones are wrong too; once it is, it stays so (the worst case over steps).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Attack, Batch, State, choose, cross_entropy, no_queries
from puriflow.errors import unknown
from puriflow.options import Count, Length, Step
from puriflow.randomness import AGAIN

Through = Literal["identity", "restorer"]


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
            purifier alone, and the exact gradient of the restorer.
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
        self.n_steps = self.n_iter + 1

    def begin(self, batch: Batch) -> State:
        """`x` is where the attack is; `x_adv` where an image was a success, or x."""
        queries = no_queries(batch.images)
        return {
            "x_adv": batch.images,
            "queries": queries,
            "success": torch.zeros_like(queries, dtype=torch.bool),
            "x": batch.images,
        }

    def step(self, batch: Batch, state: State, number: int) -> State:
        """Evaluate x, confirm successes among the images that are none yet, and step from x."""
        x, success = state["x"], state["success"]
        with torch.no_grad():
            copies = [
                batch.victim.purified(x, batch.noise.victim(f"{number}", draw))
                for draw in range(self.eot_iter)
            ]
            mean = torch.stack([batch.classify(copy) for copy in copies]).mean(0)
        queries = state["queries"] + self.eot_iter
        confirmed = torch.zeros_like(success)
        doubtful = torch.nonzero(~success & (mean.argmax(1) != batch.labels)).flatten()
        for i in doubtful.tolist():
            confirmed[i] = self._confirm(batch.take([i]), x[i : i + 1], number)
            queries[i] += self.n_draws
        grad = self.mean_gradient(batch, copies, mean)
        if self.gradient == "restorer" and batch.victim.restorer is not None:
            y = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(batch.victim.restorer(y), y, grad)
        return {
            "x_adv": choose(success, state["x_adv"], x),
            "queries": queries,
            "success": success | confirmed,
            "x": self.ball.sign_step(x, grad, self.step_size, batch.images),
        }

    def mean_gradient(self, batch: Batch, copies: list[Tensor], mean: Tensor) -> Tensor:
        """The mean over copies of the gradient of the loss of their mean logits, copy by copy."""
        mean = mean.requires_grad_()
        (of_mean,) = torch.autograd.grad(cross_entropy(mean, batch.labels).sum(), mean)
        total = torch.zeros_like(copies[0])
        for copy in copies:
            copy = copy.detach().requires_grad_()
            logits = batch.classify(copy)
            total += torch.autograd.grad(logits, copy, of_mean / len(copies))[0]
        return total / len(copies)

    @torch.no_grad()
    def _confirm(self, batch: Batch, x: Tensor, number: int) -> bool:
        """Whether the mean logits of fresh draws of one image are wrong as well."""
        logits = [batch.logits(x, f"{number} {AGAIN}", draw) for draw in range(self.n_draws)]
        return bool(torch.stack(logits).mean(0).argmax(1)[0] != batch.labels[0])


def build(
    *,
    eps: Length,
    step_size: Step = "2/255",
    n_iter: Count = 50,
    eot_iter: Count = 15,
    n_draws: Count = 150,
    gradient: Literal["identity", "restorer"] = "identity",
) -> BPDAEOT:
    """BPDA+EOT in the Linf ball; the default numbers are DiffPure's.

    `gradient: restorer` differentiates the restorer, which DiffPure has none of.
    """
    return BPDAEOT(Ball(fraction(eps)), fraction(step_size), n_iter, eot_iter, n_draws, gradient)
