"""A restorer: a Gaussian blur."""

from torch import Tensor, nn

from myparts.filters import blurred
from puriflow.options import Positive


class Blur(nn.Module):
    """(N, 3, H, W) in [0, 1] to the same shape and range."""

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        """The blurred images, differentiable."""
        return blurred(images, self.sigma)


def build(*, sigma: Positive = 1.0) -> Blur:
    """A blur by `sigma` pixels."""
    return Blur(sigma)
