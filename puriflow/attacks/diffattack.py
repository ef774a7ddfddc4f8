"""DiffAttack (Kang, Song and Li 2023, section 3): APGD that also drives the diffusion off its way.

What it raises is L_cls + weight L_dev: the loss of the classification, and how far the states of
the way back are from those of the forward process at the same times, with the same forward noise.
L_dev = E_t[alpha(t) d(x_t, x'_t)] is here the mean squared error, on the scale [-1, 1], averaged
over every step of the solver: alpha(t) is one over their number. The gradient is exact and taken
step by step, in memory that does not grow with the network. No image is ever dropped: those that
are misclassified go on being optimised.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from puriflow.attacks.apgd import APGD, LOSSES
from puriflow.attacks.attack import State, Target
from puriflow.attacks.ball import Ball, Norm, fraction
from puriflow.errors import UserError, unknown
from puriflow.purifiers.base import DiffusionPurifier
from puriflow.randomness import ImageNoise

KNOWN = ("ce", "dlr")


class DiffAttack(APGD):
    """The attack; see `APGD` for its state and its other options.

    `found` is, of each image, the last point that was misclassified, or else that of the highest
    loss. (Then DLR is below 0 and cross-entropy above, so that it is one of cross-entropy's.)

    Args:
        ball: what it stays in.
        losses: L_cls of each round, `ce` or `dlr`; a round is a run of APGD.
        iterations: of a round.
        draws: of a gradient (EOT).
        weight: of L_dev (lambda in the paper).
    """

    everyone = True

    def __init__(
        self, ball: Ball, losses: Sequence[str], *, iterations: int, draws: int, weight: float
    ):
        for loss in losses:
            if loss not in KNOWN:
                raise unknown("loss of diffattack", loss, KNOWN)
        super().__init__(ball, iterations=iterations, restarts=len(losses), draws=draws)
        self.name, self.weight = "diffattack", weight
        self.losses, needed = zip(*(LOSSES[loss] for loss in losses), strict=True)
        self.classes = max(needed)

    def begin(self, target: Target) -> State:
        """See `APGD.begin`.

        Raises:
            UserError: also where the victim's purifier has no forward process to stray from.
        """
        purifier = target.defence.purifier
        if not isinstance(purifier, DiffusionPurifier):
            own = "none" if purifier is None else type(purifier).__name__
            raise UserError(
                "diffattack compares the way back of a diffusion with its forward process: it "
                f"needs a purifier such as vpsde, vesde, ode, ddpm or ddim; the victim's is {own}"
            )
        return super().begin(target)

    def look(self, target: Target, x: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """See `APGD.look`; the loss is that of the round, with the deviation."""
        classification = self.losses[number // (self.iterations + 1)]
        total = torch.zeros_like(x)
        for draw in range(self.draws):
            y = x.detach().requires_grad_()
            noise = target.draws.defence(f"{self.name} {number}", draw)
            logits, deviation = watched(target, y, noise)
            loss = classification(logits, target.labels) + self.weight * deviation
            total += torch.autograd.grad(loss.sum(), y)[0]
        return loss.detach(), total / self.draws, logits.detach()


def watched(target: Target, x: Tensor, noise: ImageNoise) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) of x, and its deviation L_dev (N,), with this noise of the purifier."""
    errors = []

    def watch(_: float, there: Tensor, back: Tensor) -> None:
        errors.append(((there - back) ** 2).flatten(1).mean(1))

    defence = target.defence
    restored = x if defence.restorer is None else defence.restorer(x)
    logits = defence.classifier(defence.purifier(restored, noise, watch))
    return logits, torch.stack(errors).mean(0)


def build(
    *,
    eps: str | float,
    norm: Norm = "Linf",
    losses: Sequence[str] = KNOWN,
    steps: int = 100,
    draws: int = 20,
    weight: float = 1.0,
) -> DiffAttack:
    """DiffAttack; the default numbers are the paper's. See `DiffAttack` for the options."""
    if min(len(losses), steps, draws) < 1:
        raise UserError("diffattack needs 1 or more losses, steps and draws")
    if weight < 0:
        raise UserError(f"weight is {weight}, but must be 0 or more")
    return DiffAttack(
        Ball(fraction(eps), norm), losses, iterations=steps, draws=draws, weight=weight
    )
