"""AutoAttack (Croce and Hein 2020): several attacks, each on the images that the others left.

`standard` is APGD on cross-entropy, APGD-T, FAB-T and Square; `rand`, for random victims, is APGD
on cross-entropy and on DLR with EOT; `square` is Square alone (auto-attack's `custom`). DiffPure
reports for each defence the lower robust accuracy of the first two.

The verdict is auto-attack's. What is wrong in one pass over the clean images is broken. After each
attack a fresh pass decides, over the adversarial image where the attack calls it a success, and
over the clean one where it does not: what is wrong then is broken, by that image. `votes` puts a
misclassification to a vote of several. `n_eval` judges as Fixed AutoAttack does: by the share of as
many draws that are wrong, of which the largest counts; an image is attacked until that is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from puriflow.attacks.apgd import APGD
from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Batch, State, advance_rest, choose
from puriflow.attacks.fab import FABT
from puriflow.attacks.in_loop import check_fresh, evaluate, settled, unjudged
from puriflow.attacks.square import Square
from puriflow.attacks.votes import JudgedAttack
from puriflow.errors import UserError
from puriflow.options import Count, JudgedGradient, Length, Norm, check_counts
from puriflow.randomness import AUTOATTACK, CLEAN

EOT_ITER = {"standard": 1, "rand": 20, "square": 1}
INNER = "inner."  # before the keys of the state of the attack that is under way


@dataclass
class AutoAttack(JudgedAttack):
    """The ensemble. Its steps are those of its attacks, one after the other.

    Args:
        ball, votes, gradient, fixed: see `JudgedAttack`.
        attacks: to run, on the same ball.
        n_eval: fresh draws of every judgement; None for the one pass and its votes.
    """

    attacks: Sequence[APGD | FABT | Square]
    n_eval: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(n_eval=self.n_eval)
        if self.n_eval is not None:
            check_fresh(self)
        self.n_steps = sum(attack.n_steps for attack in self.attacks)

    def begin(self, batch: Batch) -> State:
        """One pass over the clean images.

        `success_by` (N,) int64 is the number of the attack that was a success, -1 for none, and for
        an image that is misclassified from the start. `x_adv` is that attack's, or else the clean
        image.
        """
        logits, wrong, queries = self.judge(batch, batch.images, f"{AUTOATTACK} {CLEAN}")
        for attack in self.attacks:
            if isinstance(attack, APGD):
                attack.check_classes(logits.shape[1])
        state = {
            "x_adv": batch.images,
            "queries": queries,
            "success": wrong,
            "clean_success": wrong,
            "success_by": torch.full_like(queries, -1),
        }
        if self.n_eval is None:
            return state
        state |= unjudged(batch.images, 1 + len(self.attacks))
        state |= self._evaluate(batch, state, batch.images, 0, self.n_eval)
        broken = settled(state)
        return state | {"success": broken, "clean_success": broken}

    def step(self, batch: Batch, state: State, number: int) -> State:
        """A step of an attack, on the images that were left when it began."""
        which, inner_number = 0, number
        while inner_number >= self.attacks[which].n_steps:
            inner_number -= self.attacks[which].n_steps
            which += 1
        attack = self.attacks[which]
        rest = batch.take(torch.nonzero(~state["success"]).flatten().tolist())
        inner = {key.removeprefix(INNER): v for key, v in state.items() if key.startswith(INNER)}
        if inner_number == 0:
            inner = attack.begin(rest)
        if not inner["success"].all():
            inner = attack.step(rest, inner, inner_number)
        if inner_number + 1 < attack.n_steps:
            return state | {INNER + key: value for key, value in inner.items()}
        own = {key: value for key, value in state.items() if not key.startswith(INNER)}
        return advance_rest(batch, own, lambda some, part: self._end(some, part, inner, which))

    @staticmethod
    def _evaluate(batch: Batch, state: State, x: Tensor, k: int, n_eval: int) -> State:
        """See `evaluate`, but of several images with most wrong draws the first one stays."""
        unbeaten = torch.full_like(state["loss_adv"], torch.inf)
        return evaluate(batch, state | {"loss_adv": unbeaten}, x, k, n_eval)

    def _end(self, batch: Batch, state: State, inner: State, which: int) -> State:
        """The verdict over what an attack hands in."""
        x = choose(inner["success"], inner["x_adv"], batch.images)
        queries = state["queries"] + inner["queries"]
        if self.n_eval is not None:
            before = state["wrong"].amax(1)
            state |= {"queries": queries}
            state |= self._evaluate(batch, state, x, which + 1, self.n_eval)
            better = state["wrong"].amax(1) > before
            return state | {
                "success": settled(state),
                "success_by": state["success_by"].masked_fill(better, which),
            }
        _, success, more = self.judge(batch, x, f"{AUTOATTACK} {self.attacks[which].name}")
        return state | {
            "x_adv": choose(success, x, state["x_adv"]),
            "queries": queries + more,
            "success": success,
            "success_by": state["success_by"].masked_fill(success, which),
        }


def build(
    *,
    eps: Length,
    norm: Norm = "Linf",
    version: Literal["standard", "rand", "square"] = "standard",
    eot_iter: Count | None = None,
    n_iter: Count = 100,
    n_queries: Count = 5000,
    n_target_classes: Count = 9,
    n_restarts: Count = 1,
    votes: Count = 1,
    gradient: JudgedGradient = "full",
    fixed: bool = False,
    n_eval: Count | None = None,
) -> AutoAttack:
    """AutoAttack; the default numbers are auto-attack's.

    `eot_iter`, over which APGD's gradients are averaged, is 20 for `rand` and else 1;
    `n_restarts` are APGD's, `n_queries` Square's, and `n_target_classes` those of APGD-T and FAB-T.
    `n_eval` is 20 in Fixed AutoAttack. See `APGD` for the others.
    """
    if version == "standard" and norm == "L2":
        raise UserError("autoattack standard is for Linf, as square is; for L2 there is rand")
    eot_iter = eot_iter if eot_iter is not None else EOT_ITER[version]
    ball = Ball(fraction(eps), norm)
    judged = {"votes": votes, "gradient": gradient, "fixed": fixed}
    apgd = {"n_iter": n_iter, "eot_iter": eot_iter, "n_restarts": n_restarts, **judged}
    if version == "rand":
        attacks = [APGD(ball, "ce", **apgd), APGD(ball, "dlr", **apgd)]
    elif version == "square":
        attacks = [Square(ball, n_queries=n_queries, **judged)]
    else:
        attacks = [
            APGD(ball, "ce", **apgd),
            APGD(ball, "dlr-targeted", n_target_classes=n_target_classes, **apgd),
            FABT(ball, n_iter=n_iter, n_target_classes=n_target_classes, **judged),
            Square(ball, n_queries=n_queries, **judged),
        ]
    return AutoAttack(ball, attacks, n_eval=n_eval, **judged)
