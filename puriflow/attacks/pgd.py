"""PGD (Madry et al. 2018; paper Eq. 4), computed by torchattacks, with draws that belong to images.

torchattacks draws its random start from the global generator, for a whole batch. Here that one call
is answered with each image's own noise, so that an image's attack does not depend on its batch.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks
from puriflow.errors import Problem
from puriflow.seeding import ImageNoise


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the cross-entropy, sign steps, in an Linf ball.

    Attributes:
        eps: radius of the ball, on [0, 1].
        step: of one iteration, on [0, 1].
        steps: iterations.
        random_start: start at a uniformly random point of the ball.
    """

    eps: float
    step: float
    steps: int
    random_start: bool

    def __call__(
        self, victim: nn.Module, images: Tensor, labels: Tensor, noise: ImageNoise
    ) -> Tensor:
        """Adversarial images (N, 3, H, W) in [0, 1] and in the ball around `images`."""
        import torchattacks

        attack = torchattacks.PGD(
            victim,
            eps=self.eps,
            alpha=self.step,
            steps=self.steps,
            random_start=self.random_start,
        )
        with _ImageDraws(noise):
            return attack(images, labels)


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


def fraction(value: str | float) -> float:
    """A number, or a fraction as the field writes it: `4/255`."""
    try:
        return float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        raise Problem(f"{value!r} is not a number or a fraction such as 4/255") from None


def build(*, eps: str | float, step: str | float, steps: int, random_start: bool) -> PGD:
    """PGD in the Linf ball; `eps` and `step` on [0, 1], as numbers or fractions such as 4/255."""
    radius, length = fraction(eps), fraction(step)
    if not 0 < radius <= 1 or not 0 < length <= 1 or steps < 1:
        raise Problem("pgd needs eps and step in (0, 1], and steps of 1 or more")
    return PGD(eps=radius, step=length, steps=steps, random_start=random_start)
