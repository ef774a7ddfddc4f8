"""PGD+EOT (Lee and Kim 2023): sign steps along the mean gradient over the defence's randomness.

The gradient is summed draw by draw, so memory does not grow with their number, and may be the exact
one, the restorer's with identity for the purifier, or identity for both (BPDA).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.ball import Ball, Norm, sign_step
from puriflow.attacks.pgd import fraction
from puriflow.defence import Defence, Gradient
from puriflow.errors import Problem
from puriflow.seeding import Draws


@dataclass(frozen=True)
class PGDEOT:
    """The attack.

    Attributes:
        ball: what it stays in.
        step: on [0, 1]; a sign step in either norm, as published.
        steps: iterations.
        draws: of a gradient (EOT).
        gradient: see `Defence.purified`.
    """

    ball: Ball
    step: float
    steps: int
    draws: int
    gradient: Gradient

    def __call__(self, defence: Defence, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Adversarial images (N, 3, H, W), in [0, 1] and in the ball around `images`."""
        x = images
        for number in range(self.steps):
            mean = self.mean_gradient(defence, x, labels, draws, number)
            x = self.ball.project(sign_step(x, mean, self.step), images)
        return x

    def mean_gradient(
        self, defence: Defence, x: Tensor, labels: Tensor, draws: Draws, number: int
    ) -> Tensor:
        """Mean over draws of the gradient of each image's cross-entropy."""
        total = torch.zeros_like(x)
        for draw in range(self.draws):
            y = x.detach().requires_grad_()
            purified = defence.purified(y, draws.defence(number, draw), self.gradient)
            loss = F.cross_entropy(defence.classifier(purified), labels, reduction="sum")
            total += torch.autograd.grad(loss, y)[0]
        return total / self.draws


def build(
    *,
    eps: str | float,
    step: str | float = 0.007,
    steps: int = 200,
    draws: int = 20,
    gradient: Literal["full", "restorer", "identity", "blind"] = "full",
    norm: Norm = "Linf",
) -> PGDEOT:
    """PGD+EOT; the default numbers are Lee and Kim's."""
    radius, length = fraction(eps), fraction(step)
    if radius <= 0 or not 0 < length <= 1 or min(steps, draws) < 1:
        raise Problem("pgd-eot needs eps above 0, step in (0, 1], and counts of 1 or more")
    return PGDEOT(Ball(radius, norm), length, steps, draws, gradient)
