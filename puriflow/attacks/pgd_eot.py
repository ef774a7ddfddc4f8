"""PGD+EOT (Lee and Kim 2023): sign steps along the mean gradient over the defence's randomness.

The gradient is summed draw by draw, so memory does not grow with their number, and may be the exact
one, the restorer's with identity for the purifier, or identity for both (BPDA).
"""

import torch
from torch import Tensor

from puriflow.attacks.attack import Attack, State, Target, cross_entropy, none_asked
from puriflow.attacks.ball import Ball, Norm, fraction, sign_step
from puriflow.defence import Gradient, check_gradient
from puriflow.errors import UserError


class PGDEOT(Attack):
    """The attack.

    Args:
        ball: what it stays in.
        step: on [0, 1]; a sign step in either norm, as published.
        steps: iterations.
        draws: of a gradient (EOT).
        gradient: see `Defence.purified`.
        fixed: see `Attack`.
    """

    def __init__(
        self,
        ball: Ball,
        step: float,
        steps: int,
        draws: int,
        gradient: Gradient = "full",
        *,
        fixed: bool = False,
    ):
        self.ball, self.length, self.steps, self.draws = ball, step, steps, draws
        self.gradient, self.fixed = check_gradient(gradient), fixed

    def begin(self, target: Target) -> State:
        """See `Attack`; no random start, as published."""
        return {"found": target.images, "queries": none_asked(target.images)}

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`."""
        x = state["found"]
        mean = self.mean_gradient(target, x, number)
        x = self.ball.project(sign_step(x, mean, self.length), target.images)
        return {"found": x, "queries": state["queries"] + self.draws}

    def mean_gradient(self, target: Target, x: Tensor, number: int) -> Tensor:
        """Mean over draws of the gradient of each image's cross-entropy."""
        total = torch.zeros_like(x)
        for draw in range(self.draws):
            y = x.detach().requires_grad_()
            loss = cross_entropy(target.logits(y, number, draw, self.gradient), target.labels)
            total += torch.autograd.grad(loss.sum(), y)[0]
        return total / self.draws


def build(
    *,
    eps: str | float,
    norm: Norm = "Linf",
    step: str | float = 0.007,
    steps: int = 200,
    draws: int = 20,
    gradient: Gradient = "full",
    fixed: bool = False,
) -> PGDEOT:
    """PGD+EOT; the default numbers are Lee and Kim's for CIFAR-10.

    `fixed` gives every draw the noise of the purify stage, as if the attacker knew its seed; one
    draw is then enough.
    """
    if min(steps, draws) < 1:
        raise UserError("pgd-eot needs 1 or more steps and draws")
    return PGDEOT(Ball(fraction(eps), norm), fraction(step), steps, draws, gradient, fixed=fixed)
