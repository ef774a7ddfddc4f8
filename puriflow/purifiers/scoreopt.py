"""Purification as optimisation of the image under a diffusion prior (ScoreOpt, Zhang et al. 2023).

ScoreOpt-O is the paper's iterative one-shot denoising (iOSD): Adam pulls the image x towards what
the network makes of x with fresh noise, loss mean((D(x + sigma eps; sigma) - x)^2). ScoreOpt-N
moves a noisy image instead, until the noise that the network sees in it is the one that was added.
Sigma is EDM's, on [-1, 1] images; 0.25 is t' = 73 of the VP-SDE, 0.5 is t' = 145.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser, append_dims
from puriflow.diffusion.optimisation import Rule, begin, check_rule, descend
from puriflow.diffusion.recomputation import recomputed
from puriflow.errors import UserError, unknown
from puriflow.options import Count, Side, real
from puriflow.purifiers.base import Callback, Purifier
from puriflow.randomness import ImageNoise

OPTIMISES = True  # for planning: a step differentiates the network
SIGMA_DELTA = 0.1  # ScoreOpt-O draws sigma from sigma +- this


class OneShot(Purifier):
    """One denoising of the noisy image at an EDM level: ScoreOpt's surrogate. It is clamped.

    Args:
        sigma: EDM's noise level.
    """

    def __init__(self, denoiser: Denoiser, *, sigma: float, resize: int | None):
        super().__init__(denoiser, resize=resize)
        self.sigma = sigma

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        return super().forward(images, noise, callback).clamp(0, 1)

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        sigma = torch.tensor(self.sigma, dtype=torch.float32)
        return self.denoiser.denoise(x + self.sigma * noise.normal_like(x), sigma)


class ScoreOpt(Purifier):
    """See `Purifier`, but the output is clamped.

    Its gradient is exact: that of all iterations, whose own gradients are differentiated too. It is
    a rough one, since Adam's first step is nearly a sign; an attack tries the surrogate as well.

    Args:
        method: `O` or `N`.
        sigma: EDM's noise level.
        n_iter: iterations of Adam.
        learning_rate: of Adam.
        rule: `adam`, or `diffhammer`; see `puriflow.diffusion.optimisation`.
        shared: as published, one sigma and one mean loss for the whole batch, so that the result of
            an image depends on its batch mates; else each image has its own.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        method: str,
        sigma: float,
        n_iter: int,
        learning_rate: float,
        rule: Rule = "adam",
        shared: bool,
        resize: int | None,
    ):
        if method not in ("O", "N"):
            raise unknown("method of ScoreOpt", method, ("O", "N"))
        check_rule(rule)
        super().__init__(denoiser, resize=resize)
        lowest = SIGMA_DELTA if method == "O" else 0
        if sigma <= lowest:
            raise UserError(f"sigma is {sigma}, but must be above {lowest}")
        self.method = method
        self.sigma = sigma
        self.n_iter = n_iter
        self.learning_rate = learning_rate
        self.rule: Rule = rule
        self.shared = shared

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        return super().forward(images, noise).clamp(0, 1)

    def surrogate(self) -> OneShot:
        """See `Purifier`: one-shot denoising at its own level, by the same network."""
        return OneShot(self.denoiser, sigma=self.sigma, resize=self.resize)

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        return self.scoreopt_o(x, noise) if self.method == "O" else self.scoreopt_n(x, noise)

    def scoreopt_o(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Minimise |D(x + sigma eps; sigma) - x|^2 over the image x; sigma and eps are fresh."""
        state = begin(x)
        for k in range(self.n_iter):
            sigma = noise.uniform(self.sigma - SIGMA_DELTA, self.sigma + SIGMA_DELTA)
            sigma = append_dims(sigma[:1] if self.shared else sigma, x)
            state = self.step_o(state, noise.normal_like(x), sigma, k=k)
        return state[0]

    def scoreopt_n(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Minimise |(x - D(x; sigma)) / sigma - eps|^2 over the noisy image x, and denoise it."""
        eps = noise.normal_like(x)
        state = begin(x + self.sigma * eps)
        for k in range(self.n_iter):
            state = self.step_n(state, eps, k=k)
        return self.denoise(state[0])

    @recomputed
    def step_o(self, state: Tensor, eps: Tensor, sigma: Tensor, *, k: int) -> Tensor:
        """The state after step k of method O, with a level and noise of its own."""

        def objective(x: Tensor) -> Tensor:
            return self.loss(self.denoiser.denoise(x + sigma * eps, sigma.flatten()) - x)

        return descend(objective, state, k, self.rule, self.learning_rate)

    @recomputed
    def step_n(self, state: Tensor, eps: Tensor, *, k: int) -> Tensor:
        """The state after step k of method N."""

        def objective(x: Tensor) -> Tensor:
            return self.loss((x - self.denoised(x)) / self.sigma - eps)

        return descend(objective, state, k, self.rule, self.learning_rate)

    @recomputed
    def denoise(self, x: Tensor) -> Tensor:
        """D(x; sigma), as a step."""
        return self.denoised(x)

    def denoised(self, x: Tensor) -> Tensor:
        """D(x; sigma)."""
        return self.denoiser.denoise(x, torch.tensor(self.sigma, dtype=torch.float32))

    def loss(self, residual: Tensor) -> Tensor:
        """The mean square (N,) of each image's residual, over the batch too if it is shared."""
        losses = (residual**2).flatten(1).mean(1)
        return losses / len(losses) if self.shared else losses


def build(
    *,
    network: Denoiser,
    method: Literal["O", "N"] = "O",
    sigma: Annotated[float, real(1e-9, 10)] = 0.5,
    n_iter: Count = 5,
    learning_rate: Annotated[float, real(1e-9, 2)] = 0.1,
    rule: Literal["adam", "diffhammer"] = "adam",
    shared: bool = False,
    resize: Side | None = None,
) -> ScoreOpt:
    """ScoreOpt with `network`; the default numbers are those of its BPDA+EOT evaluation."""
    return ScoreOpt(
        network,
        method=method,
        sigma=sigma,
        n_iter=n_iter,
        learning_rate=learning_rate,
        rule=rule,
        shared=shared,
        resize=resize,
    )
