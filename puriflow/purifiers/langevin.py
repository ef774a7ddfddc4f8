"""Long-run Langevin dynamics of an energy-based model (EBM; Hill, Mitchell and Zhu, ICLR 2021).

The image moves along the gradient of a learned energy U, with fresh normal noise z in each step:

    x <- x - step_size grad U(x) + noise z,

on [-1, 1] without a clamp, 1500 times. As published the step size is absorbed in U. The chain is
unadjusted Langevin dynamics of the density that is proportional to exp(-2 step_size U / noise^2);
an ideal one forgets in time which image it started from, with what was added to it.

Published is BPDA. The exact gradient goes through all steps, each of which has the second
derivative of U in it. With the published leaky ReLU that is zero almost everywhere: U is piecewise
linear, a step's Jacobian is the identity, and BPDA is exact, though blind to the jumps of grad U at
the kinks. MEFA's energy is smooth, and so is what is trained here.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from puriflow.diffusion.optimisation import gradient
from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError
from puriflow.fitting import check_side
from puriflow.options import Channels, Count, NonNegative, Text, real, whole
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise
from puriflow.zoo.weights import load_network

TRAINED_BY = "puriflow.training.energies"
OPTIMISES = True  # for planning: a step differentiates the network
Activation = Literal["leaky", "smooth"]
SLOPE = 0.05  # of the leaky ReLU
A, E = 0.49, 0.01  # of MEFA's smooth one
FAR = 10.0  # from 0: where no image is, and a chain has diverged


class SmoothLeaky(nn.Module):
    """MEFA's smooth leaky ReLU, (1 - a) x + a sqrt(x^2 + e^2) - a e."""

    def forward(self, x: Tensor) -> Tensor:
        return (1 - A) * x + A * (x**2 + E**2).sqrt() - A * E


class Energy(nn.Module):
    """U: images (N, 3, image_size, image_size) on [-1, 1] to energies (N,). Keys as released.

    Args:
        n_f: channels of the first convolution; each halving of the sides doubles them.
        image_size: a multiple of 8.
        activation: `leaky`, the published one, or `smooth`.
    """

    def __init__(self, *, n_f: int, image_size: int, activation: Activation):
        super().__init__()
        if image_size % 8:
            raise UserError(f"image_size is {image_size}, but must be a multiple of 8")
        self.image_size = image_size
        widths = [n_f, 2 * n_f, 4 * n_f, 8 * n_f]
        layers: list[nn.Module] = [nn.Conv2d(3, n_f, 3, padding=1)]
        for width, wider in pairwise(widths):
            layers += [act(activation), nn.Conv2d(width, wider, 4, stride=2, padding=1)]
        layers += [act(activation), nn.Conv2d(widths[-1], 1, image_size // 8)]
        self.f = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        check_side("this energy", x, self.image_size)
        return self.f(x).flatten()


def act(name: Activation) -> nn.Module:
    """An activation by its name."""
    return SmoothLeaky() if name == "smooth" else nn.LeakyReLU(SLOPE)


class Langevin(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same, not clamped.

    Args:
        network: the energy.
        n_iter: steps.
        step_size: before the gradient of U.
        noise: standard deviation of a step's noise, on [-1, 1].
        start_noise: of what is added before the first step; MEFA has 0.015.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        n_iter: int,
        step_size: float,
        noise: float,
        start_noise: float = 0.0,
    ):
        super().__init__()
        self.network = network
        self.n_iter, self.step_size, self.noise = n_iter, step_size, noise
        self.start_noise = start_noise

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called.

        Raises:
            UserError: the images are of another size, or a chain has diverged.
        """
        x = images * 2 - 1
        if self.start_noise:
            x = x + self.start_noise * noise.normal_like(x)
        left = torch.full((len(x),), self.n_iter, device=x.device)  # the step of a divergence
        for k in range(self.n_iter):
            x = self.step(x, noise.normal_like(x))
            near = (x.detach().abs() <= FAR).flatten(1).all(1)  # NaN is not
            left = torch.where(near, left, left.clamp(max=k))
        check_converged(left, self.n_iter)
        return (x + 1) / 2

    @recomputed
    def step(self, x: Tensor, z: Tensor) -> Tensor:
        """A step of the chain: x - step_size grad U(x) + noise z."""
        return x - self.step_size * gradient(self.network, x) + self.noise * z


def check_converged(left: Tensor, n_iter: int) -> None:
    """Refuse chains that have diverged, by the step (N,) in which each did; `n_iter` if none."""
    if left.device.type == "meta":  # which has no numbers
        return
    first = int(left.min())
    if first < n_iter:
        raise UserError(
            f"a chain of Langevin dynamics has diverged in step {first + 1} of {n_iter} (values "
            f"beyond {FAR:g} on [-1, 1]): take a smaller step_size, or other weights"
        )


def build(
    *,
    weights: Text | None,
    n_f: Channels = 32,
    image_size: Annotated[int, whole(8, 512)] = 32,
    activation: Literal["leaky", "smooth"] = "leaky",
    n_iter: Count = 1500,
    step_size: Annotated[float, real(1e-9, 100)] = 1.0,
    noise: NonNegative = 0.01,
    start_noise: NonNegative = 0.0,
) -> Langevin:
    """Langevin dynamics of the energy in `weights`; the default numbers are Hill et al.'s."""
    energy = Energy(n_f=n_f, image_size=image_size, activation=activation)
    return Langevin(
        load_network(energy, weights),
        n_iter=n_iter,
        step_size=step_size,
        noise=noise,
        start_noise=start_noise,
    )
