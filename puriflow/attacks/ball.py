"""The ball of an attack: steps in the direction of a gradient, and projection."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

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

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The nearest image of the ball, for L2 on the ray from the clean image; then [0, 1]."""
        change = x - clean
        if self.norm == "Linf":
            change = change.clamp(-self.eps, self.eps)
        else:
            length = change.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
            change = change * (self.eps / length).clamp(max=1)
        return (clean + change).clamp(0, 1)

    def distance(self, x: Tensor, clean: Tensor) -> Tensor:
        """Distance of each image (N,)."""
        change = (x - clean).double().flatten(1)
        return change.abs().amax(1) if self.norm == "Linf" else change.norm(dim=1)


def sign_step(x: Tensor, gradient: Tensor, step: float) -> Tensor:
    """A step that raises the loss, of the same length in every pixel."""
    return x + step * torch.sign(gradient)
