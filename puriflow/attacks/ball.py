"""The threat model: the ball around a clean image, PGD's step in it, and distances."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from puriflow.errors import UserError, unknown

Norm = Literal["Linf", "L2"]


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of the clean ones, in [0, 1].

    Attributes:
        eps: radius, on [0, 1].
        norm: `Linf`, or `L2` of the whole image.
    """

    eps: float
    norm: Norm = "Linf"

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise unknown("norm", self.norm, get_args(Norm))
        if self.norm == "Linf" and self.eps > 1:
            raise UserError(f"eps of Linf must lie in (0, 1], as 8/255 does, but is {self.eps:g}")

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The nearest image of the ball, for L2 on the ray from the clean image; then [0, 1]."""
        delta = x - clean
        if self.norm == "Linf":
            delta = delta.clamp(-self.eps, self.eps)
        else:
            length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
            delta = delta * (self.eps / length).clamp(max=1)
        return (clean + delta).clamp(0, 1)

    def sign_step(self, x: Tensor, grad: Tensor, step_size: float, clean: Tensor) -> Tensor:
        """One step of PGD from x: up the loss by the sign of its `grad`, back into the ball."""
        return self.project(x + step_size * torch.sign(grad), clean)

    def distance(self, x: Tensor, clean: Tensor) -> Tensor:
        """Distance of each image (N,), in float64."""
        delta = (x - clean).double().flatten(1)
        return delta.abs().amax(1) if self.norm == "Linf" else delta.norm(dim=1)


def fraction(value: str | float) -> float:
    """A length on [0, 1], or a fraction as the field writes it: `4/255`.

    Raises:
        UserError: it is not a number above 0.
    """
    try:
        number = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{value!r} is not a number or a fraction such as 4/255") from None
    if not number > 0:
        raise UserError(f"eps and step_size must be above 0, but one is {value}")
    return number
