"""The local adaptive Wiener filter (Lim 1990, "Two-Dimensional Signal and Image Processing").

In a window about every pixel, mean mu and variance s^2 are those of signal and noise together. With
nu^2 the variance of the noise, x becomes mu + max(s^2 - nu^2, 0) / s^2 (x - mu), each colour alone:
the local mean where there is no more than noise, the pixel itself where there is much more. It is
differentiable, so that an attack goes through it exactly.

Wu et al. (Electronics 2020) defend by it; their noise and window are not to be had, so that these
are our own choice. At the border, where Lim says nothing, the outermost pixels are repeated.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.options import Colour, Window
from puriflow.straight_through import straight_through

TINY = 1e-12  # of a variance: keeps 0 / 0, of a flat image, at 0


class Wiener(nn.Module):
    """The filter.

    Args:
        window: its side in pixels, an odd number.
        noise: standard deviation of the noise on [0, 1]; None for each image's and colour's own, by
            Lim's estimate: the mean of s^2 is nu^2.
    """

    def __init__(self, window: int, noise: float | None):
        super().__init__()
        self.window, self.noise = window, noise

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        mu = self._mean(images)
        s2 = (self._mean(images**2) - mu**2).clamp(min=0)
        nu2 = s2.mean((2, 3), keepdim=True) if self.noise is None else self.noise**2
        gain = (s2 - nu2).clamp(min=0) / s2.clamp(min=TINY)
        # What lies between x and mu leaves [0, 1] by rounding alone, which has no gradient.
        return straight_through(lambda y: y.clamp(0, 1), mu + gain * (images - mu))

    def _mean(self, planes: Tensor) -> Tensor:
        """The mean about every pixel."""
        padded = F.pad(planes, [self.window // 2] * 4, mode="replicate")
        return F.avg_pool2d(padded, self.window, stride=1)


def build(*, window: Window = 5, noise: Colour | None = None) -> Wiener:
    """The filter; `noise` is a standard deviation on [0, 1], None to estimate it."""
    return Wiener(window, noise)
