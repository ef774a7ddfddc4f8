"""FAB-T (Croce and Hein 2020, "Minimally distorted ... boundary attack"), for AutoAttack.

It looks for the nearest image that is misclassified, going towards one class after the other;
torchattacks computes it. An image is a success only if what was found lies in the ball and is
misclassified in a pass of its own.
"""

import contextlib
import io
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks
from puriflow.attacks.base import Batch, State
from puriflow.attacks.votes import JudgedAttack
from puriflow.options import Gradient, check_counts
from puriflow.randomness import AGAIN, CLEAN, FAB_T


class CountedModel(nn.Module):
    """The victim as a library wants it, a function of images; every call has noise of its own."""

    def __init__(self, batch: Batch, step: str, gradient: Gradient = "full"):
        super().__init__()
        self.batch, self.step, self.gradient = batch, step, gradient
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.batch.logits(images, f"{self.step} {self.calls}", gradient=self.gradient)


@dataclass
class FABT(JudgedAttack):
    """The attack. A step goes towards one class, the likeliest but the label first.

    The library attacks each image alone, so that the draws of one do not depend on the others, and
    all its iterations are one step. It has no random start here, and draws nothing.

    Args:
        ball, votes, gradient, fixed: see `JudgedAttack`.
        n_iter: iterations towards a class.
        n_target_classes: of a victim with fewer, all but the label.
    """

    name = FAB_T  # which seeds the victim's noise

    _: KW_ONLY
    n_iter: int = 100
    n_target_classes: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(n_iter=self.n_iter, n_target_classes=self.n_target_classes)
        self.n_steps = self.n_target_classes

    def begin(self, batch: Batch) -> State:
        """One pass over the clean images, which says how many `classes` there are."""
        logits, wrong, queries = self.judge(batch, batch.images, f"{self.name} {CLEAN}")
        classes = torch.full_like(queries, logits.shape[1])
        return {"x_adv": batch.images, "queries": queries, "success": wrong, "classes": classes}

    def step(self, batch: Batch, state: State, number: int) -> State:
        state = {key: value.clone() for key, value in state.items()}
        for i in torch.nonzero(~state["success"]).flatten().tolist():
            if number < state["classes"][i] - 1:
                x, success, queries = self._towards(batch.take([i]), number)
                state["queries"][i] += queries
                if success:
                    state["x_adv"][i], state["success"][i] = x[0], True
        return state

    def _towards(self, batch: Batch, number: int) -> tuple[Tensor, bool, int]:
        """Of one image, the nearest towards a class, whether it is a success, and the queries.

        Where it found none that is the clean image, which auto-attack asks again as well.
        """
        import torchattacks

        step, ball = f"{self.name} {number}", self.ball
        model = CountedModel(batch, step, self.gradient)
        # It prints that it finds no parameters, and takes the device of the images then.
        with contextlib.redirect_stdout(io.StringIO()):
            fab = torchattacks.FAB(
                model, norm=ball.norm, eps=ball.eps, steps=self.n_iter, multi_targeted=True
            )
        fab.target_class = number + 2  # the library counts the likeliest class as 1
        images = batch.images.contiguous()  # gradients are laid out as these, and it flattens them
        with torch.no_grad():
            x = fab.attack_single_run_targeted(images, batch.labels)
        if ball.distance(x, batch.images) > ball.eps:
            return x, False, model.calls
        _, success, queries = self.judge(batch, x, f"{step} {AGAIN}")
        return x, bool(success), model.calls + int(queries)
