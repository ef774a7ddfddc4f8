"""PGD (Madry et al. 2018; paper Eq. 4), and with several draws PGD+EOT (Lee and Kim 2023)."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Attack, Batch, State, cross_entropy, eot_gradient, no_queries
from puriflow.attacks.in_loop import in_loop
from puriflow.defence import check_gradient
from puriflow.errors import UserError
from puriflow.options import Bands, Count, Gradient, Length, Norm, Step, check_counts
from puriflow.randomness import pgd_step


@dataclass
class PGD(Attack):
    """Projected gradient ascent on the cross-entropy, by the sign of its mean gradient.

    Args:
        ball: what it stays in.
        step_size: on [0, 1]; a step of signs in either norm, as Lee and Kim published it.
        n_iter: how many steps.
        random_start: start at a uniformly random point of the ball (Linf alone), else at the clean
            image, as Lee and Kim do.
        eot_iter: draws of the victim over which a gradient is averaged.
        gradient: see `Defence.purified`.
        fixed: see `Attack`.
    """

    ball: Ball
    step_size: float
    n_iter: int
    _: KW_ONLY
    random_start: bool = True
    eot_iter: int = 1
    gradient: Gradient = "full"
    fixed: bool = False

    def __post_init__(self) -> None:
        check_gradient(self.gradient)
        if self.random_start and self.ball.norm != "Linf":
            raise UserError(f"pgd has no random start in {self.ball.norm}: say random_start: false")
        self.ball.check_step(self.step_size)
        check_counts(n_iter=self.n_iter, eot_iter=self.eot_iter)
        self.n_steps = self.n_iter

    def begin(self, batch: Batch) -> State:
        x, eps = batch.images, self.ball.eps
        if self.random_start:
            start = batch.noise.attacker().uniform_like(x, -eps, eps)
            x = (x + self.ball.in_bands(start).clamp(-eps, eps)).clamp(0, 1)
        return {"x_adv": x, "queries": no_queries(x)}

    def step(self, batch: Batch, state: State, number: int) -> State:
        grad = self.mean_gradient(batch, state["x_adv"], number)
        x = self.ball.sign_step(state["x_adv"], grad, self.step_size, batch.images)
        return {"x_adv": x, "queries": state["queries"] + self.eot_iter}

    def mean_gradient(self, batch: Batch, x: Tensor, number: int) -> Tensor:
        """Mean over draws of the gradient of each image's cross-entropy, (N, 3, H, W)."""
        step = pgd_step(number, random_start=self.random_start)

        def loss_and_logits(y: Tensor, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
            logits = batch.logits(y, step, draws, self.gradient)
            return cross_entropy(logits, batch.labels.repeat(len(draws))), logits

        return eot_gradient(loss_and_logits, x, self.eot_iter)[1]


def build(
    *,
    eps: Length,
    norm: Norm = "Linf",
    bands: Bands = 1,
    step_size: Step,
    n_iter: Count,
    random_start: bool = True,
    eot_iter: Count = 1,
    gradient: Gradient = "full",
    fixed: bool = False,
    n_eval: Count | None = None,
    eval_every: Count = 1,
) -> Attack:
    """PGD; `eps` and `step_size` on [0, 1], as numbers or fractions such as 4/255.

    `fixed` gives every draw the noise of the purify stage, as if the attacker knew its seed; one
    draw is then enough. `n_eval` draws evaluate every `eval_every`-th point, see `InLoop`. See
    `PGD` for the others.
    """
    attack = PGD(
        Ball(fraction(eps), norm, fraction(bands)),
        fraction(step_size),
        n_iter,
        random_start=random_start,
        eot_iter=eot_iter,
        gradient=gradient,
        fixed=fixed,
    )
    return in_loop(attack, n_eval, eval_every)
