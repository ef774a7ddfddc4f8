"""FAB-T (Croce and Hein 2020, "Minimally distorted ... boundary attack"), for AutoAttack.

It looks for the nearest image that is misclassified, going towards one class after the other;
torchattacks computes it. An image counts as broken only if what was found lies in the ball and is
misclassified in a pass of its own.
"""

import contextlib
import io

import torch
from torch import Tensor

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks
from puriflow.attacks.attack import Asked, Attack, State, Target
from puriflow.attacks.ball import Ball
from puriflow.attacks.votes import judged
from puriflow.defence import Gradient, check_gradient


class FABT(Attack):
    """The attack. A step goes towards one class, the likeliest but the label first.

    The library attacks each image alone, so that the draws of one do not depend on the others, and
    all its iterations are one step. It has no random start here, and draws nothing.

    Attributes:
        name: tells its draws from those of other attacks.

    Args:
        ball: what counts.
        iterations: towards a class.
        targets: classes; of a victim with fewer, all but the label.
        votes: see `confirmed`.
        gradient: see `Defence.purified`; with `blind` the classifier alone is judged.
        fixed: see `Attack`.
    """

    name = "fab-t"

    def __init__(
        self,
        ball: Ball,
        *,
        iterations: int = 100,
        targets: int = 9,
        votes: int = 1,
        gradient: Gradient = "full",
        fixed: bool = False,
    ):
        self.ball, self.iterations, self.steps = ball, iterations, targets
        self.votes, self.gradient, self.fixed = votes, check_gradient(gradient), fixed

    def begin(self, target: Target) -> State:
        """See `Attack`: one pass over the clean images, which says how many `classes` there are."""
        logits, wrong, asked = judged(
            target, target.images, "fab-t clean", self.votes, self.gradient
        )
        classes = torch.full_like(asked, logits.shape[1])
        return {"found": target.images, "queries": asked, "broken": wrong, "classes": classes}

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`."""
        state = {key: value.clone() for key, value in state.items()}
        for i in torch.nonzero(~state["broken"]).flatten().tolist():
            if number < state["classes"][i] - 1:
                x, broken, asked = self._towards(target.take([i]), number)
                state["queries"][i] += asked
                if broken:
                    state["found"][i], state["broken"][i] = x[0], True
        return state

    def _towards(self, target: Target, number: int) -> tuple[Tensor, bool, int]:
        """The nearest image found towards a class, whether it counts, and how often was asked."""
        victim = Asked(target, f"{self.name} {number}", self.gradient)
        attack = self._library(victim)
        attack.target_class = number + 2  # the library counts the likeliest class as 1
        with torch.no_grad():
            x = attack.attack_single_run_targeted(target.images, target.labels)
        outside = self.ball.distance(x, target.images) > self.ball.eps
        if outside or torch.equal(x, target.images):  # it gives the clean image back for nothing
            return x, False, victim.calls
        step = f"{self.name} {number} again"
        _, broken, asked = judged(target, x, step, self.votes, self.gradient)
        return x, bool(broken), victim.calls + int(asked)

    def _library(self, victim: Asked):
        import torchattacks

        # It prints that it finds no parameters, and takes the device of the images then.
        with contextlib.redirect_stdout(io.StringIO()):
            return torchattacks.FAB(
                victim,
                norm=self.ball.norm,
                eps=self.ball.eps,
                steps=self.iterations,
                multi_targeted=True,
            )
