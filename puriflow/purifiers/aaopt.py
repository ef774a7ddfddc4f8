"""AAOpt (Wesego and Rooshenas, NeurIPS 2025): Adam along the noise that two networks expect.

In every iteration the image x moves against

    (eps_hat(x + sigma eps; sigma) - eps) + weight (delta_hat(delta_t, t) - delta_eps),

with fresh sigma, eps and delta_eps: of the images' network, and of one that was trained on
adversarial perturbations, which sees delta = given - x at the timestep trunc(1000 sigma) of its
VP-SDE. No Jacobian of a network is in that direction (score distillation), but in an attack's
gradient, which goes through every iteration here; their attacks go through the first one of twenty.

The sign of the second term is that of its code, whose network is trained on adversarial - clean by
default, as delta is here. Descent on the perturbation's energy would have the other one: a negative
weight.
"""

from copy import copy
from typing import Annotated, Literal

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser, append_dims
from puriflow.diffusion.optimisation import adam_step, begin
from puriflow.diffusion.recomputation import recomputed
from puriflow.diffusion.vp import diffuse, discrete_alpha_bar
from puriflow.errors import UserError
from puriflow.options import Count, Side, real
from puriflow.purifiers.base import Callback, Purifier
from puriflow.randomness import ImageNoise

OPTIMISES = True  # for planning: a step differentiates the network
SPREAD = 0.1  # a random sigma is drawn from sigma +- this


class AAOpt(Purifier):
    """See `Purifier`, but the output is clamped.

    Args:
        perturbations: the network of perturbations; None for the images' alone, their baseline.
        sigma: EDM's noise level, on [-1, 1] images.
        levels: `random` about sigma, each image its own, or `falling` from it in equal steps.
        n_iter: iterations of Adam.
        learning_rate: of Adam.
        weight: of the second term.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        perturbations: Denoiser | None,
        *,
        sigma: float,
        levels: Literal["random", "falling"],
        n_iter: int,
        learning_rate: float,
        weight: float,
        resize: int | None,
    ):
        super().__init__(denoiser, resize=resize)
        if levels == "random" and sigma <= SPREAD:
            raise UserError(f"sigma is {sigma}, but must be above {SPREAD}")
        self.perturbations = perturbations
        self.sigma, self.falling, self.n_iter = sigma, levels == "falling", n_iter
        self.learning_rate, self.weight = learning_rate, weight
        self.iterations = n_iter  # of which a surrogate does fewer

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        return super().forward(images, noise).clamp(0, 1)

    def surrogate(self) -> "AAOpt":
        """See `Purifier`: the first iteration alone."""
        one = copy(self)
        one.iterations = 1
        return one

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """Draws of an iteration: sigma if it is random, eps, and delta_eps if there is one."""
        given, state = x, begin(x)
        for k in range(self.iterations):
            if self.falling:
                level = self.sigma * (1 - k / self.n_iter)
                sigma = torch.full((len(x),), level, dtype=torch.float64, device="cpu")
            else:
                sigma = noise.uniform(self.sigma - SPREAD, self.sigma + SPREAD)
            drawn = [noise.normal_like(x)]
            if self.perturbations is not None:
                drawn.append(noise.normal_like(x))
            state = self.step(state, given, sigma, *drawn, k=k)
        return state[0]

    @recomputed
    def step(self, state: Tensor, given: Tensor, sigma: Tensor, *drawn: Tensor, k: int) -> Tensor:
        """The state after iteration k."""
        x, level = state[0], append_dims(sigma, given)
        eps = drawn[0]
        direction = (x - self.denoiser.denoise(x + level * eps, level.flatten())) / level
        if self.perturbations is not None:
            direction = direction + self.weight * self.of_perturbation(given - x, sigma, drawn[1])
        return adam_step(state, direction / x[0].numel(), k, self.learning_rate)

    def of_perturbation(self, delta: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
        """Delta_hat - delta_eps."""
        assert self.perturbations is not None
        level = (1000 * sigma).long() + 1
        x = diffuse(delta, level, eps)
        ve_sigma = (1 / discrete_alpha_bar(level).flatten() - 1) ** 0.5
        return self.perturbations.eps_and_variance(x, ve_sigma)[0] - eps


def build(
    *,
    network: Denoiser,
    perturbations: Denoiser | None = None,
    sigma: Annotated[float, real(1e-9, 0.8)] = 0.25,
    levels: Literal["random", "falling"] = "random",
    n_iter: Count = 20,
    learning_rate: Annotated[float, real(1e-9, 2)] = 0.1,
    weight: Annotated[float, real(-100, 100)] = 0.25,
    resize: Side | None = None,
) -> AAOpt:
    """AAOpt with `network`; the default numbers are those of its PGD+EOT on CIFAR-10."""
    return AAOpt(
        network,
        perturbations,
        sigma=sigma,
        levels=levels,
        n_iter=n_iter,
        learning_rate=learning_rate,
        weight=weight,
        resize=resize,
    )
