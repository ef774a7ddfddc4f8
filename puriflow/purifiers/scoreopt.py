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
from puriflow.errors import UserError, unknown
from puriflow.options import Count, Side, real
from puriflow.purifiers.base import Callback, Purifier
from puriflow.randomness import ImageNoise
from puriflow.straight_through import straight_through

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

    For an attack its Jacobian is the identity (BPDA): the optimisation is not differentiated.

    Args:
        method: `O` or `N`.
        sigma: EDM's noise level.
        n_iter: iterations of Adam.
        learning_rate: of Adam.
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
        shared: bool,
        resize: int | None,
    ):
        if method not in ("O", "N"):
            raise unknown("method of ScoreOpt", method, ("O", "N"))
        super().__init__(denoiser, resize=resize)
        lowest = SIGMA_DELTA if method == "O" else 0
        if sigma <= lowest:
            raise UserError(f"sigma is {sigma}, but must be above {lowest}")
        self.method = method
        self.sigma = sigma
        self.n_iter = n_iter
        self.learning_rate = learning_rate
        self.shared = shared

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        purify = super().forward
        return straight_through(lambda x: purify(x, noise).clamp(0, 1), images)

    def surrogate(self) -> OneShot:
        """See `Purifier`: one-shot denoising at its own level, by the same network."""
        return OneShot(self.denoiser, sigma=self.sigma, resize=self.resize)

    @torch.enable_grad()
    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        return self.scoreopt_o(x, noise) if self.method == "O" else self.scoreopt_n(x, noise)

    def scoreopt_o(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Minimise |D(x + sigma eps; sigma) - x|^2 over the image x; sigma and eps are fresh."""
        x = x.requires_grad_()
        adam = torch.optim.Adam([x], lr=self.learning_rate)
        for _ in range(self.n_iter):
            sigma = noise.uniform(self.sigma - SIGMA_DELTA, self.sigma + SIGMA_DELTA)
            sigma = append_dims(sigma[:1] if self.shared else sigma, x)
            noisy = x + sigma * noise.normal_like(x)
            self._minimise(adam, (self.denoiser.denoise(noisy, sigma.flatten()) - x) ** 2)
        return x.detach()

    def scoreopt_n(self, x: Tensor, noise: ImageNoise) -> Tensor:
        """Minimise |(x - D(x; sigma)) / sigma - eps|^2 over the noisy image x, and denoise it."""
        eps = noise.normal_like(x)
        x = (x + self.sigma * eps).requires_grad_()
        sigma = torch.tensor(self.sigma, dtype=torch.float32)
        adam = torch.optim.Adam([x], lr=self.learning_rate)
        for _ in range(self.n_iter):
            predicted = (x - self.denoiser.denoise(x, sigma)) / self.sigma
            self._minimise(adam, (predicted - eps) ** 2)
        with torch.no_grad():
            return self.denoiser.denoise(x, sigma)

    def _minimise(self, adam: torch.optim.Adam, squares: Tensor) -> None:
        losses = squares.flatten(1).mean(1)
        adam.zero_grad()
        (losses.mean() if self.shared else losses.sum()).backward()
        adam.step()


def build(
    *,
    network: Denoiser,
    method: Literal["O", "N"] = "O",
    sigma: Annotated[float, real(1e-9, 10)] = 0.5,
    n_iter: Count = 5,
    learning_rate: Annotated[float, real(1e-9, 2)] = 0.1,
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
        shared=shared,
        resize=resize,
    )
