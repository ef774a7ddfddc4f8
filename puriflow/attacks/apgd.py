"""APGD and APGD-T (Croce and Hein 2020, "Reliable evaluation ... parameter-free attacks").

Projected gradient ascent with momentum that halves its own step size: at checkpoints, where the
loss rose too rarely or its best value stands still, it goes back to the best point so far. As in
auto-attack, a run goes through all its iterations on every image it started on, and what it keeps
of an image is the last point that was misclassified.
"""

from typing import Literal

import torch
from torch import Tensor

from puriflow.attacks.attack import Attack, State, Target, cross_entropy
from puriflow.attacks.ball import Ball, Norm, fraction
from puriflow.attacks.votes import confirmed, judged
from puriflow.defence import Gradient, check_gradient
from puriflow.errors import UserError, unknown

Loss = Literal["ce", "dlr", "dlr-targeted"]
TINY = 1e-12


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio of each image (N,); above 0 where it is misclassified."""
    right = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    ordered = logits.sort(1, descending=True)[0]
    return (other - right) / (ordered[:, 0] - ordered[:, 2] + TINY)


def dlr_targeted(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
    """The same towards one class of each image, `goals` (N,)."""
    right = logits.gather(1, labels[:, None])[:, 0]
    goal = logits.gather(1, goals[:, None])[:, 0]
    ordered = logits.sort(1, descending=True)[0]
    return (goal - right) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + TINY)


# And how many classes each needs.
LOSSES = {"ce": (cross_entropy, 2), "dlr": (dlr, 3), "dlr-targeted": (dlr_targeted, 4)}


def checkpoints(iterations: int) -> dict[int, int]:
    """Where the step size is reconsidered: iteration to how many iterations it looks back."""
    window, found, at = max(int(0.22 * iterations), 1), {}, 0
    while (at := at + window) <= iterations:
        found[at] = window
        shorter = window - max(int(0.03 * iterations), 1)
        window = max(shorter, int(0.06 * iterations), 1)
    return found


class APGD(Attack):
    """The attack, on cross-entropy (`ce`), DLR (`dlr`) or targeted DLR (`dlr-targeted`, APGD-T).

    APGD-T has a run for each class but the label, the likeliest on the clean image first. One pass
    over the clean image ranks them, where auto-attack ranks them anew before every run: the same
    for a deterministic victim, and never the same class twice for a random one.

    A subclass may replace `look`, and set `everyone`.

    Attributes:
        name: tells its draws from those of other attacks.
        iterations: of a run. A step of the attack is one point of a run, the start included.
        everyone: misclassified images are optimised as well, until the end; else the images that a
            run finds broken, or that are misclassified from the start, are left alone from then on.

    Args:
        ball: what it stays in.
        loss: what it raises.
        iterations: see above.
        restarts: runs, of each target class with `dlr-targeted`; on the images that stand.
        draws: over which a gradient is averaged (EOT); the loss and the answer of a point are those
            of the last draw, as in auto-attack.
        targets: classes of `dlr-targeted`; of a victim with fewer, all but the label.
        rho: the step size is halved where the loss rose in no more than this share of a window.
        votes: see `confirmed`.
        gradient: see `Defence.purified`; with `blind` the classifier alone is judged.
        fixed: see `Attack`.
    """

    everyone = False

    def __init__(
        self,
        ball: Ball,
        loss: Loss = "ce",
        *,
        iterations: int = 100,
        restarts: int = 1,
        draws: int = 1,
        targets: int = 9,
        rho: float = 0.75,
        votes: int = 1,
        gradient: Gradient = "full",
        fixed: bool = False,
    ):
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        self.name, self.ball, self.fixed = f"apgd-{loss}", ball, fixed
        self.loss, self.classes = LOSSES[loss]
        self.targets = targets if loss == "dlr-targeted" else 0
        self.iterations, self.restarts, self.draws = iterations, restarts, draws
        self.rho, self.votes, self.gradient = rho, votes, check_gradient(gradient)
        self.steps = max(self.targets, 1) * restarts * (iterations + 1)
        self.windows = checkpoints(iterations)

    def check_classes(self, number: int) -> None:
        """Check how many classes the victim has.

        Raises:
            UserError: too few for the loss.
        """
        if number < self.classes:
            raise UserError(
                f"{self.name} needs {self.classes} or more classes, but the victim has {number}"
            )

    def begin(self, target: Target) -> State:
        """See `Attack`: one pass over the clean images.

        `found` is the last point that was misclassified, or else that of the highest loss; `wrong`
        says which, and becomes `broken` at the end of a run. Of the run: the points `x`,
        `x_before` and `x_best` (N, 3, H, W) with `gradient` and `gradient_best`, `loss_best` (N,)
        and `loss_trace` (N, iterations + 1), and the step size `length` (N,) with what its next
        checkpoint needs.

        Raises:
            UserError: the victim has too few classes for the loss.
        """
        x, clean = target.images, f"{self.name} clean"
        logits, wrong, asked = judged(target, x, clean, self.votes, self.gradient)
        self.check_classes(logits.shape[1])
        lowest = x.new_full((len(x),), -torch.inf)
        state = {
            **{"found": x, "queries": asked, "wrong": wrong, "loss_found": lowest},
            "broken": torch.zeros_like(wrong) if self.everyone else wrong,
            **{"x": x, "x_before": x, "gradient": torch.zeros_like(x)},
            **{"x_best": x, "gradient_best": torch.zeros_like(x), "loss_best": lowest},
            "loss_trace": x.new_zeros(len(x), self.iterations + 1),
            **{"length": lowest, "reduced": wrong, "loss_checked": lowest},
        }
        if self.targets:
            others = logits.scatter(1, target.labels[:, None], -torch.inf)
            ranked = others.argsort(1, descending=True)
            state["goals"] = ranked[:, : min(self.targets, logits.shape[1] - 1)]
        return state

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`: the next point of every image that is attacked."""
        run, i = divmod(number, self.iterations + 1)
        goal = ()
        if self.targets:
            which = run // self.restarts
            if which >= state["goals"].shape[1]:
                return state
            goal = (state["goals"][:, which],)
        chosen = torch.nonzero(~state["broken"]).flatten()
        part = {key: value[chosen] for key, value in state.items()}
        some = target.take(chosen.tolist())
        part |= self._start(some, part, run) if i == 0 else self._next(some, part, i)
        found = self.look(some, part["x"], number, *(classes[chosen] for classes in goal))
        part |= self._seen(some, part, i, number, *found)
        if i in self.windows:
            part |= self._checked(part, i)
        if i == self.iterations and (not self.everyone or number + 1 == self.steps):
            part["broken"] = part["wrong"]
        return {key: value.index_copy(0, chosen, part[key]) for key, value in state.items()}

    def look(
        self, target: Target, x: Tensor, number: int, *goals: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss (N,), its gradient like x, and the logits (N, classes) at a point.

        Args:
            target: a victim and images.
            x: in place of the images.
            number: of the step.
            goals: the class of each image (N,), only with `dlr-targeted`.
        """
        total = torch.zeros_like(x)
        for draw in range(self.draws):
            y = x.detach().requires_grad_()
            logits = target.logits(y, f"{self.name} {number}", draw, self.gradient)
            loss = self.loss(logits, target.labels, *goals)
            total += torch.autograd.grad(loss.sum(), y)[0]
        return loss.detach(), total / self.draws, logits.detach()

    def _start(self, target: Target, state: State, run: int) -> State:
        """A random point at the border of the ball, and a fresh memory."""
        clean, noise = target.images, target.draws.start(f"{self.name} {run}")
        if self.ball.norm == "Linf":
            drawn = noise.uniform_like(clean, -1, 1)
        else:
            drawn = noise.normal_like(clean)
        x = (clean + self.ball.eps * self._unit(drawn)).clamp(0, 1)
        return {
            **{"x": x, "x_before": x},
            "loss_best": torch.full_like(state["loss_best"], -torch.inf),
            "length": torch.full_like(state["length"], 2 * self.ball.eps),
            "reduced": torch.ones_like(state["reduced"]),
        }

    def _next(self, target: Target, state: State, i: int) -> State:
        """A step along the gradient, three quarters of it, and a quarter of the step before."""
        x, clean = state["x"], target.images
        gradient, length = state["gradient"], state["length"][:, None, None, None]
        direction = gradient.sign() if self.ball.norm == "Linf" else self._unit(gradient)
        ahead = self.ball.project(x + length * direction, clean)
        share = 0.75 if i > 1 else 1.0
        moved = x + share * (ahead - x) + (1 - share) * (x - state["x_before"])
        return {"x": self.ball.project(moved, clean), "x_before": x}

    def _unit(self, x: Tensor) -> Tensor:
        """Each image at length 1 in the norm of the ball."""
        order = torch.inf if self.ball.norm == "Linf" else 2
        return x / (x.flatten(1).norm(order, dim=1)[:, None, None, None] + TINY)

    def _seen(
        self,
        target: Target,
        state: State,
        i: int,
        number: int,
        loss: Tensor,
        gradient: Tensor,
        logits: Tensor,
    ) -> State:
        """What is kept of a point: whether it breaks the image, and whether it is the best."""
        x, step = state["x"], f"{self.name} {number}"
        wrong = logits.argmax(1) != target.labels
        wrong, asked = confirmed(target, x, wrong, step, self.votes, self.gradient)
        highest = ~state["wrong"] & (loss > state["loss_found"])
        better = loss > state["loss_best"]
        trace = state["loss_trace"].clone()
        trace[:, i] = loss
        return {
            "queries": state["queries"] + self.draws + asked,
            "found": _choose(wrong | highest, x, state["found"]),
            "wrong": state["wrong"] | wrong,
            "loss_found": torch.maximum(loss, state["loss_found"]),
            "gradient": gradient,
            "x_best": _choose(better, x, state["x_best"]),
            "gradient_best": _choose(better, gradient, state["gradient_best"]),
            "loss_best": torch.where(better, loss, state["loss_best"]),
            "loss_trace": trace,
        }

    def _checked(self, state: State, i: int) -> State:
        """Halve the step size and go back to the best point where the run makes no progress."""
        window, trace = self.windows[i], state["loss_trace"]
        newer, older = trace[:, i - window + 1 : i + 1], trace[:, i - window : i].clone()
        if i == window:
            older[:, 0] = 0  # auto-attack compares the first loss with 0, not with the start's
        rare = (newer > older).sum(1) <= self.rho * window
        still = ~state["reduced"] & (state["loss_checked"] >= state["loss_best"])
        stuck = rare | still
        return {
            "length": torch.where(stuck, state["length"] / 2, state["length"]),
            "reduced": stuck,
            "loss_checked": state["loss_best"],
            "x": _choose(stuck, state["x_best"], state["x"]),
            "gradient": _choose(stuck, state["gradient_best"], state["gradient"]),
        }


def _choose(where: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Images of x where a flag of each (N,) says so, and else of another batch."""
    return torch.where(where[:, None, None, None], x, other)


def build(
    *,
    eps: str | float,
    norm: Norm = "Linf",
    loss: Loss = "ce",
    steps: int = 100,
    restarts: int = 1,
    draws: int = 1,
    targets: int = 9,
    rho: float = 0.75,
    votes: int = 1,
    gradient: Gradient = "full",
    fixed: bool = False,
) -> APGD:
    """APGD; the default numbers are auto-attack's. See `APGD` for the options."""
    if min(steps, restarts, draws, targets, votes) < 1:
        raise UserError("apgd needs 1 or more steps, restarts, draws, targets and votes")
    if not 0 < rho < 1:
        raise UserError(f"rho is {rho}, but must lie between 0 and 1")
    return APGD(
        Ball(fraction(eps), norm),
        loss,
        iterations=steps,
        restarts=restarts,
        draws=draws,
        targets=targets,
        rho=rho,
        votes=votes,
        gradient=gradient,
        fixed=fixed,
    )
