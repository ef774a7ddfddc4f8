"""Total variance minimisation behind a random mask (Guo et al. 2018, section 3.3).

Each colour of each pixel is dropped by chance, and the image is put together again from the rest:
z minimises sum m (z - x)^2 + weight TV(z), where m is 1 where x was kept, and TV is isotropic and
of each colour by itself. Guo et al.'s code solves it by split Bregman, in which a dropped value has
neighbours alone; here it is Chambolle and Pock's primal-dual algorithm (2011, Algorithm 1), whose
steps are differentiable, so that an attack has the exact gradient. Nothing is diffused: there is no
network.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from puriflow.diffusion.recomputation import recomputed
from puriflow.options import Count, Fraction, real
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise

STEP = 8**-0.5  # of image and dual alike: the norm of the differences is below sqrt(8)
TOGETHER = 10  # iterations that are computed again at once for a gradient


class TVMMask(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same.

    Args:
        drop: the chance of each value to be dropped.
        weight: of the total variation.
        n_iter: iterations of the solver.
    """

    def __init__(self, *, drop: float, weight: float, n_iter: int):
        super().__init__()
        self.drop, self.weight, self.n_iter = drop, weight, n_iter

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        kept = (noise.uniform_like(images, 0, 1) >= self.drop).to(images.dtype)
        zeros = torch.zeros_like(images)
        state = torch.stack([kept * images, kept * images, zeros, zeros])
        for start in range(0, self.n_iter, TOGETHER):
            count = min(TOGETHER, self.n_iter - start)
            state = self.iterations(state, images, kept, count=count)
        return state[0].clamp(0, 1)

    @recomputed
    def iterations(self, state: Tensor, x: Tensor, kept: Tensor, *, count: int) -> Tensor:
        """The state (4, N, 3, H, W): z, its extrapolation, and the dual of both differences."""
        z, ahead, down, right = state
        for _ in range(count):
            step_down, step_right = differences(ahead)
            down, right = down + STEP * step_down, right + STEP * step_right
            # the slope of a root at 0 is infinite, and nothing is divided there
            length = (down**2 + right**2).clamp_min(1e-12).sqrt() / self.weight
            down, right = down / length.clamp_min(1), right / length.clamp_min(1)
            before, z = z, z + STEP * divergence(down, right)
            z = (z + 2 * STEP * kept * x) / (1 + 2 * STEP * kept)
            ahead = 2 * z - before
        return torch.stack([z, ahead, down, right])


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """To the pixel below and to the right (N, C, H, W); 0 at the border."""
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return down, right


def divergence(down: Tensor, right: Tensor) -> Tensor:
    """The negative of the transpose of `differences`."""
    out = torch.zeros_like(down)
    out[..., :-1, :] += down[..., :-1, :]
    out[..., 1:, :] -= down[..., :-1, :]
    out[..., :-1] += right[..., :-1]
    out[..., 1:] -= right[..., :-1]
    return out


def build(
    *, drop: Fraction = 0.5, weight: Annotated[float, real(1e-9, 10)] = 0.03, n_iter: Count = 200
) -> TVMMask:
    """Total variance minimisation of half of the values; the default numbers are Guo et al.'s."""
    return TVMMask(drop=drop, weight=weight, n_iter=n_iter)
