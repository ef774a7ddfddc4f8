"""DiffAttack (Kang, Song and Li 2023, section 3): APGD that also drives the reverse process astray.

What it raises is L_cls + lambda L_dev: the loss of the classification, and how far the states x'_t
of the reverse process are from those x_t of the forward process at the same times, with the same
forward noise. L_dev = E_t[alpha(t) d(x_t, x'_t)] is here the squared error on the scale [-1, 1], as
a mean or a sum over the pixels of an image, averaged over every step of the solver: alpha(t) is one
over their number. (d is not published; at weight 1 a mean is too small to matter.) The gradient is
exact and taken step by step, in memory that does not grow with the network. It drops no image:
those that are misclassified go on being optimised. Its host is AutoAttack, which leaves out what is
wrong without any attack, and whose fresh pass is the verdict.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from puriflow.attacks.apgd import APGD, LOSSES
from puriflow.attacks.autoattack import AutoAttack
from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Batch, State, eot_gradient
from puriflow.errors import UserError, unknown
from puriflow.options import Count, Length, NonNegative, Norm, Reduction, listed
from puriflow.purifiers.base import DiffusionPurifier
from puriflow.randomness import DIFFATTACK, ImageNoise

UNTARGETED = ("ce", "dlr")


class DiffAttack(APGD):
    """The attack; see `APGD` for its state and its other options.

    `x_adv` is, of each image, the last point that was misclassified, or else that of the highest
    loss. (Then DLR is below 0 and cross-entropy above, so that it is one of cross-entropy's.)

    Args:
        ball: what it stays in.
        losses: L_cls of each round, `ce` or `dlr`; a round is a run of APGD.
        n_iter: of a round.
        eot_iter: draws of a gradient.
        weight: of L_dev (lambda in the paper).
        deviation: `mean` or `sum` of the squared errors of an image's pixels and colours.
    """

    optimise_misclassified = True

    def __init__(
        self,
        ball: Ball,
        losses: Sequence[str],
        *,
        n_iter: int,
        eot_iter: int,
        weight: float,
        deviation: Reduction,
    ):
        for loss in losses:
            if loss not in UNTARGETED:
                raise unknown("loss of diffattack", loss, UNTARGETED)
        super().__init__(ball, n_iter=n_iter, n_restarts=len(losses), eot_iter=eot_iter)
        self.name, self.weight, self.deviation = DIFFATTACK, weight, deviation
        self.losses, needed = zip(*(LOSSES[loss] for loss in losses), strict=True)
        self.min_classes = max(needed)

    def begin(self, batch: Batch) -> State:
        purifier = batch.victim.purifier
        if not isinstance(purifier, DiffusionPurifier):
            own = "none" if purifier is None else type(purifier).__name__
            raise UserError(
                "diffattack compares the reverse process of a diffusion with the forward one: it "
                f"needs a purifier such as vpsde, vesde, ode, ddpm or ddim; the victim's is {own}"
            )
        return super().begin(batch)

    def loss_and_grad(
        self, batch: Batch, x: Tensor, number: int, *target_class: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss is that of the round, with the deviation."""
        l_cls = self.losses[number // (self.n_iter + 1)]

        def loss_and_logits(y: Tensor, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
            noise = batch.noise.victim(f"{self.name} {number}", draws)
            copies = y.repeat(len(draws), 1, 1, 1)
            logits, l_dev = logits_and_deviation(batch, copies, noise, self.deviation)
            labels = batch.labels.repeat(len(draws))
            return l_cls(logits, labels) + self.weight * l_dev, logits

        return eot_gradient(loss_and_logits, x, self.eot_iter)


def logits_and_deviation(
    batch: Batch, x: Tensor, noise: ImageNoise, deviation: Reduction
) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) of x, and its deviation L_dev (N,), with this noise of the purifier."""
    distances = []

    def callback(_: float, x_t: Tensor, reverse_x_t: Tensor) -> None:
        squares = ((x_t - reverse_x_t) ** 2).flatten(1)
        distances.append(squares.sum(1) if deviation == "sum" else squares.mean(1))

    restorer, purifier = batch.victim.restorer, batch.victim.purifier
    assert purifier is not None  # see DiffAttack.begin
    restored = x if restorer is None else restorer(x)
    logits = batch.classify(purifier(restored, noise, callback))
    return logits, torch.stack(distances).mean(0)


def build(
    *,
    eps: Length,
    norm: Norm = "Linf",
    losses: Annotated[Sequence[Literal["ce", "dlr"]], listed(1, 100, "of ce, dlr")] = UNTARGETED,
    n_iter: Count = 100,
    eot_iter: Count = 20,
    weight: NonNegative = 1.0,
    deviation: Reduction = "mean",
) -> AutoAttack:
    """DiffAttack; the default numbers are the paper's. See `DiffAttack` for the options."""
    ball = Ball(fraction(eps), norm)
    attack = DiffAttack(
        ball, losses, n_iter=n_iter, eot_iter=eot_iter, weight=weight, deviation=deviation
    )
    return AutoAttack(ball, [attack])
