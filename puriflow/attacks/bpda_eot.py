"""BPDA+EOT (Athalye et al. 2018; Hill et al. 2021) by DiffPure's protocol (paper, section 5.1).

Each step purifies several copies of the image, takes the gradient of the cross-entropy of their
mean logits with respect to the purified copies as if purifying changed nothing, and steps by the
sign of its mean. An image is broken at a step if the mean logits of these copies are wrong and
those of many fresh ones are wrong too; once broken it stays so (the worst case over steps).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from puriflow.attacks.attack import Attack, State, Target, cross_entropy, none_asked
from puriflow.attacks.ball import Ball, fraction, sign_step
from puriflow.errors import UserError, unknown

Through = Literal["identity", "restorer"]


class BPDAEOT(Attack):
    """The attack.

    Args:
        ball: Linf.
        step: on [0, 1].
        iterations: steps of the gradient; one more evaluation follows the last.
        attack_draws: copies of a gradient.
        defence_draws: fresh copies that confirm a break.
        through: what has the identity for its gradient: `identity` for restorer and purifier,
            `restorer` for the purifier alone, whose gradient then goes through the restorer.
    """

    def __init__(
        self,
        ball: Ball,
        step: float,
        iterations: int,
        attack_draws: int,
        defence_draws: int,
        through: Through = "identity",
    ):
        if through not in get_args(Through):
            raise unknown("gradient of bpda-eot", through, get_args(Through))
        self.ball, self.length, self.steps = ball, step, iterations + 1
        self.attack_draws, self.defence_draws = attack_draws, defence_draws
        self.through = through

    def begin(self, target: Target) -> State:
        """See `Attack`. `x` is where the attack is; `found` where each image broke, else `x`."""
        none = torch.zeros(len(target.images), dtype=torch.bool, device=target.images.device)
        return {
            "found": target.images,
            "queries": none_asked(target.images),
            "broken": none,
            "x": target.images,
        }

    def step(self, target: Target, state: State, number: int) -> State:
        """Evaluate x, confirm breaks among the images that stand, and take one step from x."""
        x, broken = state["x"], state["broken"]
        with torch.no_grad():
            copies = [
                target.defence.purified(x, target.draws.defence(number, draw))
                for draw in range(self.attack_draws)
            ]
            mean = torch.stack([target.defence.classifier(copy) for copy in copies]).mean(0)
        queries = state["queries"] + self.attack_draws
        confirmed = torch.zeros_like(broken)
        doubtful = torch.nonzero(~broken & (mean.argmax(1) != target.labels)).flatten()
        for i in doubtful.tolist():
            confirmed[i] = self._confirmed(target.take([i]), x[i : i + 1], number)
            queries[i] += self.defence_draws
        gradient = self.gradient(target, copies, mean)
        if self.through == "restorer" and target.defence.restorer is not None:
            y = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(target.defence.restorer(y), y, gradient)
        return {
            "found": torch.where(broken[:, None, None, None], state["found"], x),
            "queries": queries,
            "broken": broken | confirmed,
            "x": self.ball.project(sign_step(x, gradient, self.length), target.images),
        }

    def gradient(self, target: Target, copies: list[Tensor], mean: Tensor) -> Tensor:
        """The mean over copies of the gradient of the loss of their mean logits, copy by copy."""
        mean = mean.requires_grad_()
        (pull,) = torch.autograd.grad(cross_entropy(mean, target.labels).sum(), mean)
        total = torch.zeros_like(copies[0])
        for copy in copies:
            copy = copy.detach().requires_grad_()
            logits = target.defence.classifier(copy)
            total += torch.autograd.grad(logits, copy, pull / len(copies))[0]
        return total / len(copies)

    @torch.no_grad()
    def _confirmed(self, target: Target, x: Tensor, number: int) -> bool:
        logits = [target.logits(x, f"{number} again", draw) for draw in range(self.defence_draws)]
        return bool(torch.stack(logits).mean(0).argmax(1)[0] != target.labels[0])


def build(
    *,
    eps: str | float,
    step: str | float = "2/255",
    steps: int = 50,
    attack_draws: int = 15,
    defence_draws: int = 150,
    gradient: Through = "identity",
) -> BPDAEOT:
    """BPDA+EOT in the Linf ball; the default numbers are DiffPure's.

    `gradient: restorer` differentiates the restorer, which DiffPure has none of.
    """
    if min(steps, attack_draws, defence_draws) < 1:
        raise UserError("bpda-eot needs 1 or more steps, attack_draws and defence_draws")
    return BPDAEOT(
        Ball(fraction(eps)), fraction(step), steps, attack_draws, defence_draws, gradient
    )
