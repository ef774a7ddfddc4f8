"""The threat model: the ball around a clean image, PGD's step in it, and distances."""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from puriflow.attacks.bands import low_pass
from puriflow.errors import UserError, unknown
from puriflow.fitting import check_range
from puriflow.options import Norm, check_ball, check_step, fraction

__all__ = ["Ball", "fraction"]


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of the clean ones, in [0, 1].

    Attributes:
        eps: radius, on [0, 1].
        norm: `Linf`, or `L2` of the whole image.
        bands: the share of the DCT bands along each axis, the lowest ones, that a perturbation is
            made of; 1 for all. Where it is cut off at `eps`, 0 or 1, a little of it is in others.
    """

    eps: float
    norm: Norm = "Linf"
    bands: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise unknown("norm", self.norm, get_args(Norm))
        check_ball(self.eps, self.norm)
        if not 0 < self.bands <= 1:
            raise UserError(f"bands must lie in (0, 1], as 1/4 does, but is {self.bands:g}")

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The nearest image of the ball, for L2 on the ray from the clean image; then [0, 1].

        What is not in the bands is dropped before.
        """
        delta = self.in_bands(x - clean)
        if self.norm == "Linf":
            delta = delta.clamp(-self.eps, self.eps)
        else:
            length = delta.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
            delta = delta * (self.eps / length).clamp(max=1)
        return self.inwards((clean + delta).clamp(0, 1), clean)

    def inwards(self, x: Tensor, clean: Tensor) -> Tensor:
        """Images x on [0, 1], where the rounding of all their pixels left the L2 ball drawn in.

        What float32 rounds adds up over the pixels to 1e-5 of an image of 224. (In Linf it is one
        pixel's, 6e-8 at most, which stays.) Each pixel is rounded towards that of the clean image.
        """
        if self.norm == "Linf":
            return x
        delta = x.double() - clean.double()
        length = delta.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        delta = delta * (self.eps / length * (1 - 1e-12)).clamp(max=1)  # of float64's own rounding
        y = (clean.double() + delta).to(x.dtype)
        too_far = (y.double() - clean.double()).abs() > delta.abs()
        y = torch.where(too_far, torch.nextafter(y, clean), y)
        return torch.where(length > self.eps, y, x)

    def in_bands(self, delta: Tensor) -> Tensor:
        """The part of perturbations, or of gradients, (N, 3, H, W) that lies in the bands."""
        return delta if self.bands == 1 else low_pass(delta, self.bands)

    def sign_step(self, x: Tensor, grad: Tensor, step_size: float, clean: Tensor) -> Tensor:
        """One step of PGD from x: up the loss by the sign of its `grad`, back into the ball."""
        return self.project(x + step_size * torch.sign(self.in_bands(grad)), clean)

    def distance(self, x: Tensor, clean: Tensor) -> Tensor:
        """Distance of each image (N,), in float64."""
        if self.norm == "Linf":
            return (x - clean).double().flatten(1).abs().amax(1)
        return (x.double() - clean.double()).flatten(1).norm(dim=1)

    def check_step(self, step_size: float) -> None:
        """Refuse a step of signs that is longer than the ball is wide."""
        check_step(step_size, self.eps, self.norm)

    def check_images(self, clean: Tensor) -> None:
        """Refuse clean images (N, 3, H, W) that are not on [0, 1], or too small for the radius.

        Within half of the unit cube's diagonal of any image lies plain grey.
        """
        check_range(clean)
        grey = clean[0].numel() ** 0.5 / 2
        if self.norm == "L2" and self.eps > grey:
            raise UserError(
                f"eps of L2 is {self.eps:g}, but images of this size turn to grey within {grey:.3g}"
            )
