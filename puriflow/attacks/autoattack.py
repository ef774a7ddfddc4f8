"""AutoAttack (Croce and Hein 2020): several attacks, each on the images that the others left.

`standard` is APGD on cross-entropy, APGD-T, FAB-T and Square; `rand`, for random victims, is APGD
on cross-entropy and on DLR with EOT. As in auto-attack, after each of them one fresh pass over what
it found decides; `votes` puts a wrong answer to a vote of several. DiffPure reports for each
defence the lower robust accuracy of the two versions.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from puriflow.attacks.apgd import APGD
from puriflow.attacks.attack import Attack, State, Target, cross_entropy
from puriflow.attacks.ball import Ball, Norm, fraction
from puriflow.attacks.fab import FABT
from puriflow.attacks.square import Square
from puriflow.attacks.votes import judged
from puriflow.defence import Gradient, check_gradient
from puriflow.errors import UserError, unknown

Part = APGD | FABT | Square
VERSIONS = ("standard", "rand")
# Before the keys of the state of the part that is under way.
OWN = "part."


class AutoAttack(Attack):
    """The attack. Its steps are those of its parts, one after the other.

    auto-attack judges the clean image where a part found nothing; here it is the part's best try.

    Args:
        ball: what it stays in.
        parts: the attacks, which share the ball.
        votes: see `confirmed`.
        gradient: see `Defence.purified`; with `blind` the classifier alone is judged.
        fixed: see `Attack`.
    """

    def __init__(
        self,
        ball: Ball,
        parts: Sequence[Part],
        *,
        votes: int = 1,
        gradient: Gradient = "full",
        fixed: bool = False,
    ):
        self.ball, self.parts, self.votes, self.fixed = ball, parts, votes, fixed
        self.gradient = check_gradient(gradient)
        self.steps = sum(part.steps for part in parts)

    def begin(self, target: Target) -> State:
        """See `Attack`: one pass over the clean images.

        `by` (N,) int64 is the number of the part that broke an image, -1 for none, and for an image
        that is misclassified from the start. `found` is the image that broke it, or else that of
        the highest cross-entropy, `loss_found` (N,), among what the parts found.

        Raises:
            UserError: the victim has too few classes for a part.
        """
        logits, wrong, asked = self._judged(target, target.images, "clean")
        for part in self.parts:
            if isinstance(part, APGD):
                part.check_classes(logits.shape[1])
        return {
            "found": target.images,
            "queries": asked,
            "broken": wrong,
            "by": torch.full_like(asked, -1),
            "loss_found": cross_entropy(logits, target.labels),
        }

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`: a step of a part, on the images that stood when it began."""
        which, inner = self._place(number)
        part = self.parts[which]
        standing = torch.nonzero(~state["broken"]).flatten()
        some = target.take(standing.tolist())
        own = {key.removeprefix(OWN): v for key, v in state.items() if key.startswith(OWN)}
        if inner == 0:
            own = part.begin(some)
        if not own["broken"].all():
            own = part.step(some, own, inner)
        if inner + 1 < part.steps:
            return state | {OWN + key: value for key, value in own.items()}
        shared = {key: value for key, value in state.items() if not key.startswith(OWN)}
        some_shared = {key: value[standing] for key, value in shared.items()}
        ended = self._ended(some, some_shared, own, which)
        return {key: v.index_copy(0, standing, ended[key]) for key, v in shared.items()}

    def _place(self, number: int) -> tuple[int, int]:
        """The part of a step, and the step's number in it."""
        for which, part in enumerate(self.parts):
            if number < part.steps:
                return which, number
            number -= part.steps
        raise IndexError(f"AutoAttack has {self.steps} steps")

    def _ended(self, target: Target, state: State, own: State, which: int) -> State:
        """The verdict over what a part found."""
        x = own["found"]
        logits, broken, asked = self._judged(target, x, self.parts[which].name)
        loss = cross_entropy(logits, target.labels)
        better = broken | (loss > state["loss_found"])
        return {
            "found": torch.where(better[:, None, None, None], x, state["found"]),
            "queries": state["queries"] + own["queries"] + asked,
            "broken": broken,
            "by": state["by"].masked_fill(broken, which),
            "loss_found": torch.where(better, loss, state["loss_found"]),
        }

    def _judged(self, target: Target, x: Tensor, what: str) -> tuple[Tensor, Tensor, Tensor]:
        return judged(target, x, f"autoattack {what}", self.votes, self.gradient)


def build(
    *,
    eps: str | float,
    norm: Norm = "Linf",
    version: Literal["standard", "rand"] = "standard",
    draws: int | None = None,
    steps: int = 100,
    queries: int = 5000,
    targets: int = 9,
    restarts: int = 1,
    votes: int = 1,
    gradient: Gradient = "full",
    fixed: bool = False,
) -> AutoAttack:
    """AutoAttack; the default numbers are auto-attack's.

    `draws`, over which APGD's gradients are averaged, are 20 for `rand` and 1 for `standard`;
    `restarts` are APGD's, `queries` Square's, and `targets` the classes of APGD-T and FAB-T. See
    `APGD` for the others.
    """
    if version not in VERSIONS:
        raise unknown("version of autoattack", version, VERSIONS)
    if version == "standard" and norm == "L2":
        raise UserError("autoattack standard is for Linf, as square is; for L2 there is rand")
    draws = draws if draws is not None else {"standard": 1, "rand": 20}[version]
    if min(draws, steps, queries, targets, restarts, votes) < 1:
        raise UserError(
            "autoattack needs 1 or more draws, steps, queries, targets, restarts and votes"
        )
    ball = Ball(fraction(eps), norm)
    judge = {"votes": votes, "gradient": gradient, "fixed": fixed}
    climb = {"iterations": steps, "draws": draws, "restarts": restarts, **judge}
    if version == "rand":
        parts = [APGD(ball, "ce", **climb), APGD(ball, "dlr", **climb)]
    else:
        parts = [
            APGD(ball, "ce", **climb),
            APGD(ball, "dlr-targeted", targets=targets, **climb),
            FABT(ball, iterations=steps, targets=targets, **judge),
            Square(ball, queries=queries, **judge),
        ]
    return AutoAttack(ball, parts, **judge)
