"""PGD (Madry et al. 2018; paper Eq. 4), computed by torchattacks, with draws that belong to images.

torchattacks draws its random start from the global generator, for a whole batch. Here that one call
is answered with each image's own noise, so that an image's attack does not depend on its batch.
"""

import torch
from torch.overrides import TorchFunctionMode

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks
from puriflow.attacks.attack import Asked, Attack, State, Target, none_asked
from puriflow.attacks.ball import Ball, fraction
from puriflow.errors import UserError
from puriflow.randomness import ImageNoise


class PGD(Attack):
    """Projected gradient ascent on the cross-entropy, sign steps, in an Linf ball.

    The library does all iterations in one `step`; a long attack on a random defence is `pgd-eot`.

    Args:
        ball: Linf.
        step: of one iteration, on [0, 1].
        iterations: how many.
        random_start: start at a uniformly random point of the ball.
    """

    steps = 1

    def __init__(self, ball: Ball, step: float, iterations: int, *, random_start: bool):
        self.ball, self.length = ball, step
        self.iterations, self.random_start = iterations, random_start

    def begin(self, target: Target) -> State:
        """See `Attack`."""
        return {"found": target.images, "queries": none_asked(target.images)}

    def step(self, target: Target, state: State, number: int) -> State:
        """See `Attack`."""
        import torchattacks

        victim = Asked(target, "pgd")
        attack = torchattacks.PGD(
            victim,
            eps=self.ball.eps,
            alpha=self.length,
            steps=self.iterations,
            random_start=self.random_start,
        )
        with _ImageDraws(target.draws.start()):
            found = attack(target.images, target.labels)
        return {"found": found, "queries": state["queries"] + victim.calls}


class _ImageDraws(TorchFunctionMode):
    """Answers `Tensor.uniform_` with the noise of each image."""

    def __init__(self, noise: ImageNoise):
        super().__init__()
        self.noise = noise

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.uniform_:
            target, low, high = args
            with torch._C.DisableTorchFunctionSubclass():
                return target.copy_(self.noise.uniform_like(target, low, high))
        return function(*args, **(kwargs or {}))


def build(*, eps: str | float, step: str | float, steps: int, random_start: bool) -> PGD:
    """PGD in the Linf ball; `eps` and `step` on [0, 1], as numbers or fractions such as 4/255."""
    if steps < 1:
        raise UserError(f"steps is {steps}, but must be 1 or more")
    return PGD(Ball(fraction(eps)), fraction(step), steps, random_start=random_start)
