"""BPDA+EOT (Athalye et al. 2018; Hill et al. 2021) by DiffPure's protocol (paper, section 5.1).

Each step purifies several copies of the image, takes the gradient of the cross-entropy of their
mean logits with respect to the purified copies as if purifying changed nothing, and steps by the
sign of its mean. An image is broken at a step if the mean logits of these copies are wrong and
those of many fresh ones are wrong too; once broken it stays so (the worst case over steps).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.ball import Ball, sign_step
from puriflow.attacks.pgd import fraction
from puriflow.defence import Defence
from puriflow.errors import Problem
from puriflow.seeding import Draws


@dataclass(frozen=True)
class Step:
    """What one step found: of each image of the batch."""

    x: Tensor  # the images that were evaluated
    after: Tensor  # the images after the step
    gradient: Tensor
    right: Tensor  # the mean logits of the attack's copies are right
    broken: Tensor  # and those of the fresh copies are wrong too


@dataclass(frozen=True)
class BPDAEOT:
    """The attack.

    Attributes:
        ball: Linf.
        step: on [0, 1].
        steps: of the gradient; one more evaluation follows the last.
        attack_draws: copies of a gradient.
        defence_draws: fresh copies that confirm a break.
    """

    ball: Ball
    step: float
    steps: int
    attack_draws: int
    defence_draws: int

    def __call__(self, defence: Defence, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Adversarial images: of the step at which each broke, else of the last one."""
        x, found = images, images
        broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for number in range(self.steps + 1):
            step = self.look(defence, images, x, labels, draws, number, ~broken)
            found = torch.where((~broken)[:, None, None, None], step.x, found)
            broken = broken | step.broken
            x = step.after
        return found

    def look(
        self,
        defence: Defence,
        clean: Tensor,
        x: Tensor,
        labels: Tensor,
        draws: Draws,
        number: int,
        unbroken: Tensor,
    ) -> Step:
        """Evaluate x, confirm breaks among the `unbroken` images, and take one step from x."""
        with torch.no_grad():
            copies = [
                defence.purified(x, draws.defence(number, draw))
                for draw in range(self.attack_draws)
            ]
            mean = torch.stack([defence.classifier(copy) for copy in copies]).mean(0)
        right = mean.argmax(1) == labels
        broken = torch.zeros_like(right)
        for i in torch.nonzero(unbroken & ~right).flatten().tolist():
            broken[i] = self._confirmed(defence, x[i : i + 1], labels[i], draws, number, i)
        gradient = self._gradient(defence, copies, mean, labels)
        after = self.ball.project(sign_step(x, gradient, self.step), clean)
        return Step(x, after, gradient, right, broken)

    def _gradient(
        self, defence: Defence, copies: list[Tensor], mean: Tensor, labels: Tensor
    ) -> Tensor:
        """The mean over copies of the gradient of the loss of their mean logits, copy by copy."""
        mean = mean.requires_grad_()
        (pull,) = torch.autograd.grad(F.cross_entropy(mean, labels, reduction="sum"), mean)
        total = torch.zeros_like(copies[0])
        for copy in copies:
            copy = copy.detach().requires_grad_()
            logits = defence.classifier(copy)
            total += torch.autograd.grad(logits, copy, pull / len(copies))[0]
        return total / len(copies)

    @torch.no_grad()
    def _confirmed(
        self, defence: Defence, x: Tensor, label: Tensor, draws: Draws, number: int, i: int
    ) -> bool:
        logits = [
            defence.classifier(defence.purified(x, draws.defence(f"{number} again", draw, [i])))
            for draw in range(self.defence_draws)
        ]
        return bool(torch.stack(logits).mean(0).argmax(1)[0] != label)


def build(
    *,
    eps: str | float,
    step: str | float = "2/255",
    steps: int = 50,
    attack_draws: int = 15,
    defence_draws: int = 150,
) -> BPDAEOT:
    """BPDA+EOT in the Linf ball; the default numbers are DiffPure's."""
    radius, length = fraction(eps), fraction(step)
    if not 0 < radius <= 1 or not 0 < length <= 1 or min(steps, attack_draws, defence_draws) < 1:
        raise Problem("bpda-eot needs eps and step in (0, 1], and counts of 1 or more")
    return BPDAEOT(Ball(radius), length, steps, attack_draws, defence_draws)
