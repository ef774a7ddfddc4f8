"""APGD and APGD-T (Croce and Hein 2020, "Reliable evaluation ... parameter-free attacks").

Projected gradient ascent with momentum that halves its own step size (Algorithm 1): at checkpoints,
where the loss rose too rarely or its best value stands still, it goes back to the best point so
far. As in auto-attack, a run goes through all its iterations on every image it started on, and its
adversarial image is the last point that was misclassified.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import (
    Attack,
    Batch,
    State,
    advance_rest,
    choose,
    cross_entropy,
    eot_gradient,
)
from puriflow.attacks.in_loop import in_loop
from puriflow.attacks.votes import JudgedAttack
from puriflow.errors import UserError, unknown
from puriflow.options import (
    Bands,
    Count,
    JudgedGradient,
    Length,
    Loss,
    Norm,
    Share,
    check_counts,
)
from puriflow.randomness import APGD as WORDS
from puriflow.randomness import CLEAN

TINY = 1e-12


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio of each image (N,); above 0 where it is misclassified."""
    z_y = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    ordered = logits.sort(1, descending=True)[0]
    return (other - z_y) / (ordered[:, 0] - ordered[:, 2] + TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, target_class: Tensor) -> Tensor:
    """The same towards one class of each image, `target_class` (N,)."""
    z_y = logits.gather(1, labels[:, None])[:, 0]
    z_t = logits.gather(1, target_class[:, None])[:, 0]
    ordered = logits.sort(1, descending=True)[0]
    return (z_t - z_y) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + TINY)


# And how many classes each needs.
LOSSES = {"ce": (cross_entropy, 2), "dlr": (dlr, 3), "dlr-targeted": (dlr_targeted, 4)}


def checkpoints(n_iter: int) -> dict[int, int]:
    """Where the step size is reconsidered: iteration to how many iterations it looks back."""
    window, windows, k = max(int(0.22 * n_iter), 1), {}, 0
    while (k := k + window) <= n_iter:
        windows[k] = window
        shorter = window - max(int(0.03 * n_iter), 1)
        window = max(shorter, int(0.06 * n_iter), 1)
    return windows


@dataclass
class APGD(JudgedAttack):
    """The attack, on cross-entropy (`ce`), DLR (`dlr`) or targeted DLR (`dlr-targeted`, APGD-T).

    APGD-T has a run for each class but the label, the likeliest on the clean image first. One pass
    over the clean image ranks them, where auto-attack ranks them anew before every run: the same
    for a deterministic victim, and never the same class twice for a random one.

    A subclass may replace `loss_and_grad`, and set `optimise_misclassified`.

    Attributes:
        name: the word that seeds its noise.
        optimise_misclassified: all images are optimised until the end; else those that are
            misclassified from the start, or in a run before, are left alone.

    Args:
        ball, votes, gradient, fixed: see `JudgedAttack`.
        loss: what it raises.
        n_iter: iterations of a run. A step of the attack is one point of a run, the start included.
        n_restarts: runs, of each target class with `dlr-targeted`, on the images that are left.
        eot_iter: draws over which a gradient is averaged; the loss and the answer of a point are
            those of the last draw, as in auto-attack.
        n_target_classes: of `dlr-targeted`; of a victim with fewer classes, all but the label.
        rho: the step size is halved where the loss rose in no more than this share of a window.
    """

    optimise_misclassified = False

    loss: Loss = "ce"
    _: KW_ONLY
    n_iter: int = 100
    n_restarts: int = 1
    eot_iter: int = 1
    n_target_classes: int = 9
    rho: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(
            n_iter=self.n_iter,
            n_restarts=self.n_restarts,
            eot_iter=self.eot_iter,
            n_target_classes=self.n_target_classes,
        )
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        self.name, self.targeted = WORDS[self.loss], self.loss == "dlr-targeted"
        self.loss_function, self.min_classes = LOSSES[self.loss]
        n_runs = (self.n_target_classes if self.targeted else 1) * self.n_restarts
        self.n_steps = n_runs * (self.n_iter + 1)
        self.windows = checkpoints(self.n_iter)

    def check_classes(self, number: int) -> None:
        """Raise a `UserError` if the victim has too few classes for the loss."""
        if number < self.min_classes:
            raise UserError(
                f"{self.name} needs {self.min_classes} or more classes, but the victim has {number}"
            )

    def begin(self, batch: Batch) -> State:
        """One pass over the clean images.

        `x_adv` is the last point that was misclassified, or else that of the highest loss,
        `loss_adv` (N,); `misclassified` says which, and becomes `success` at the end of a run. Of
        the run: the points `x`, `x_prev` and `x_best` (N, 3, H, W) with `grad` and `grad_best`,
        `loss_best` (N,) and `loss_steps` (N, n_iter + 1), and `step_size` (N,) with what its next
        checkpoint needs.
        """
        x, clean = batch.images, f"{self.name} {CLEAN}"
        logits, wrong, queries = self.judge(batch, x, clean)
        self.check_classes(logits.shape[1])
        lowest = x.new_full((len(x),), -torch.inf)
        state = {
            **{"x_adv": x, "queries": queries, "misclassified": wrong, "loss_adv": lowest},
            "success": torch.zeros_like(wrong) if self.optimise_misclassified else wrong,
            **{"x": x, "x_prev": x, "grad": torch.zeros_like(x)},
            **{"x_best": x, "grad_best": torch.zeros_like(x), "loss_best": lowest},
            "loss_steps": x.new_zeros(len(x), self.n_iter + 1),
            **{"step_size": lowest, "reduced_last_check": wrong, "loss_best_last_check": lowest},
        }
        if self.targeted:
            others = logits.scatter(1, batch.labels[:, None], -torch.inf)
            ranked = others.argsort(1, descending=True)
            state["target_class"] = ranked[:, : min(self.n_target_classes, logits.shape[1] - 1)]
        return state

    def point(self, state: State) -> Tensor:
        return state["x"]

    def step(self, batch: Batch, state: State, number: int) -> State:
        """The next point of every image that is attacked."""
        which = number // (self.n_iter + 1) // self.n_restarts
        if self.targeted and which >= state["target_class"].shape[1]:
            return state
        return advance_rest(batch, state, lambda some, part: self._point(some, part, number))

    def _point(self, batch: Batch, state: State, number: int) -> State:
        """Iteration k of a run: a point, its loss and gradient, and what follows from them."""
        run, k = divmod(number, self.n_iter + 1)
        which = run // self.n_restarts
        target = (state["target_class"][:, which],) if self.targeted else ()
        state |= self._begin_run(batch, state, run) if k == 0 else self._ascend(batch, state, k)
        evaluated = self.loss_and_grad(batch, state["x"], number, *target)
        state |= self._record(batch, state, number, *evaluated)
        if k in self.windows:
            state |= self._check(state, k)
        if k == self.n_iter and (not self.optimise_misclassified or number + 1 == self.n_steps):
            state["success"] = state["misclassified"]
        return state

    def loss_and_grad(
        self, batch: Batch, x: Tensor, number: int, *target_class: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss (N,), its gradient like x, and the logits (N, classes) at x in a step.

        `target_class` of each image (N,) is given with `dlr-targeted` only.
        """

        def loss_and_logits(y: Tensor, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
            logits = batch.logits(y, f"{self.name} {number}", draws, self.gradient)
            classes = (of.repeat(len(draws)) for of in (batch.labels, *target_class))
            return self.loss_function(logits, *classes), logits

        return eot_gradient(loss_and_logits, x, self.eot_iter)

    def _begin_run(self, batch: Batch, state: State, run: int) -> State:
        """A random point at the border of the ball, and a fresh memory."""
        clean, noise = batch.images, batch.noise.attacker(f"{self.name} {run}")
        if self.ball.norm == "Linf":
            start = noise.uniform_like(clean, -1, 1)
        else:
            start = noise.normal_like(clean)
        x = (clean + self.ball.eps * self._normalise(self.ball.in_bands(start))).clamp(0, 1)
        x = self.ball.inwards(x, clean)
        return {
            **{"x": x, "x_prev": x},
            "loss_best": torch.full_like(state["loss_best"], -torch.inf),
            "step_size": torch.full_like(state["step_size"], 2 * self.ball.eps),
            "reduced_last_check": torch.ones_like(state["reduced_last_check"]),
        }

    def _ascend(self, batch: Batch, state: State, k: int) -> State:
        """A step with momentum: alpha of the gradient's, and the rest of the step before."""
        x, clean, grad = state["x"], batch.images, self.ball.in_bands(state["grad"])
        direction = grad.sign() if self.ball.norm == "Linf" else self._normalise(grad)
        z = self.ball.project(x + state["step_size"][:, None, None, None] * direction, clean)
        alpha = 0.75 if k > 1 else 1.0
        moved = x + alpha * (z - x) + (1 - alpha) * (x - state["x_prev"])
        return {"x": self.ball.project(moved, clean), "x_prev": x}

    def _normalise(self, x: Tensor) -> Tensor:
        """Each image at length 1 in the norm of the ball."""
        order = torch.inf if self.ball.norm == "Linf" else 2
        return x / (x.flatten(1).norm(order, dim=1)[:, None, None, None] + TINY)

    def _record(
        self, batch: Batch, state: State, number: int, loss: Tensor, grad: Tensor, logits: Tensor
    ) -> State:
        """What is remembered of a point: if it is misclassified, and if its loss is the best."""
        x, step = state["x"], f"{self.name} {number}"
        wrong = logits.argmax(1) != batch.labels
        wrong, votes = self.confirm(batch, x, wrong, step)
        highest = ~state["misclassified"] & (loss > state["loss_adv"])
        better = loss > state["loss_best"]
        loss_steps = state["loss_steps"].clone()
        loss_steps[:, number % (self.n_iter + 1)] = loss
        return {
            "queries": state["queries"] + self.eot_iter + votes,
            "x_adv": choose(wrong | highest, x, state["x_adv"]),
            "misclassified": state["misclassified"] | wrong,
            "loss_adv": torch.maximum(loss, state["loss_adv"]),
            "grad": grad,
            "x_best": choose(better, x, state["x_best"]),
            "grad_best": choose(better, grad, state["grad_best"]),
            "loss_best": torch.where(better, loss, state["loss_best"]),
            "loss_steps": loss_steps,
        }

    def _check(self, state: State, k: int) -> State:
        """Halve the step size and go back to the best point where the run makes no progress."""
        window, losses = self.windows[k], state["loss_steps"]
        newer, older = losses[:, k - window + 1 : k + 1], losses[:, k - window : k].clone()
        if k == window:
            older[:, 0] = 0  # auto-attack compares the first loss with 0, not with the start's
        rare = (newer > older).sum(1) <= self.rho * window
        no_better = state["loss_best_last_check"] >= state["loss_best"]
        reduce = rare | (~state["reduced_last_check"] & no_better)
        return {
            "step_size": torch.where(reduce, state["step_size"] / 2, state["step_size"]),
            "reduced_last_check": reduce,
            "loss_best_last_check": state["loss_best"],
            "x": choose(reduce, state["x_best"], state["x"]),
            "grad": choose(reduce, state["grad_best"], state["grad"]),
        }


def build(
    *,
    eps: Length,
    norm: Norm = "Linf",
    bands: Bands = 1,
    loss: Loss = "ce",
    n_iter: Count = 100,
    n_restarts: Count = 1,
    eot_iter: Count = 1,
    n_target_classes: Count = 9,
    rho: Share = 0.75,
    votes: Count = 1,
    gradient: JudgedGradient = "full",
    fixed: bool = False,
    n_eval: Count | None = None,
    eval_every: Count = 1,
) -> Attack:
    """APGD; the default numbers are auto-attack's. See `APGD` for the options.

    `n_eval` draws evaluate every `eval_every`-th point, see `InLoop`; then it optimises all images
    until the end, as a misclassification by one draw does not settle what several say.
    """
    attack = APGD(
        Ball(fraction(eps), norm, fraction(bands)),
        loss,
        n_iter=n_iter,
        n_restarts=n_restarts,
        eot_iter=eot_iter,
        n_target_classes=n_target_classes,
        rho=rho,
        votes=votes,
        gradient=gradient,
        fixed=fixed,
    )
    attack.optimise_misclassified = n_eval is not None
    return in_loop(attack, n_eval, eval_every)
