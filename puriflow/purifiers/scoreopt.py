"""Purification as optimisation of the image under a diffusion prior (ScoreOpt, Zhang et al. 2023).

ScoreOpt-O is the paper's iterative one-shot denoising (iOSD): Adam pulls the image x towards what
the network makes of x with fresh noise, loss mean((D(x + sigma e; sigma) - x)^2). ScoreOpt-N moves
a noisy image instead, until the noise that the network sees in it is the one that was added. Sigma
is EDM's, on [-1, 1] images; 0.25 is t' = 73 of the VP-SDE, 0.5 is t' = 145.
"""

from typing import Literal

import torch
from torch import Tensor

from puriflow.diffusion.denoisers import Denoiser, like
from puriflow.errors import UserError, unknown
from puriflow.purifiers.purifier import Purifier, Watch
from puriflow.randomness import ImageNoise
from puriflow.straight_through import straight_through

WIDTH = 0.1  # ScoreOpt-O draws sigma from sigma +- this


class ScoreOpt(Purifier):
    """See `Purifier`, but the output is clamped.

    For an attack its Jacobian is the identity (BPDA): the optimisation is not differentiated.

    Args:
        denoiser: the network.
        method: `O` or `N`.
        sigma: EDM's noise level.
        iterations: of Adam.
        learning_rate: of Adam.
        shared: as published, one sigma and one mean loss for the whole batch, so that the result of
            an image depends on its batch mates; else each image has its own.
        resize: of `Purifier`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        method: str,
        sigma: float,
        iterations: int,
        learning_rate: float,
        shared: bool,
        resize: int | None,
    ):
        if method not in ("O", "N"):
            raise unknown("method of ScoreOpt", method, ("O", "N"))
        super().__init__(denoiser, resize=resize)
        if sigma <= (WIDTH if method == "O" else 0):
            raise UserError(f"sigma is {sigma}, but must be above {WIDTH if method == 'O' else 0}")
        self.method = method
        self.sigma = sigma
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.shared = shared

    def forward(self, images: Tensor, noise: ImageNoise, watch: Watch | None = None) -> Tensor:
        """See `Purifier.forward`; nothing is diffused and taken back, so nothing is watched."""
        purify = super().forward
        return straight_through(lambda x: purify(x, noise).clamp(0, 1), images)

    @torch.enable_grad()
    def round(self, x: Tensor, noise: ImageNoise, watch: Watch | None) -> Tensor:
        """See `Purifier.round`."""
        return self._image(x, noise) if self.method == "O" else self._noisy(x, noise)

    def _image(self, x: Tensor, noise: ImageNoise) -> Tensor:
        x = x.requires_grad_()
        adam = torch.optim.Adam([x], lr=self.learning_rate)
        for _ in range(self.iterations):
            sigma = noise.uniform(self.sigma - WIDTH, self.sigma + WIDTH)
            sigma = like(x, sigma[:1] if self.shared else sigma)
            noisy = x + sigma * noise.normal_like(x)
            self._descend(adam, (self.denoiser.denoise(noisy, sigma.flatten()) - x) ** 2)
        return x.detach()

    def _noisy(self, x: Tensor, noise: ImageNoise) -> Tensor:
        added = noise.normal_like(x)
        x = (x + self.sigma * added).requires_grad_()
        sigma = torch.tensor(self.sigma)
        adam = torch.optim.Adam([x], lr=self.learning_rate)
        for _ in range(self.iterations):
            seen = (x - self.denoiser.denoise(x, sigma)) / self.sigma
            self._descend(adam, (seen - added) ** 2)
        with torch.no_grad():
            return self.denoiser.denoise(x, sigma)

    def _descend(self, adam: torch.optim.Adam, error: Tensor) -> None:
        images = error.flatten(1).mean(1)
        adam.zero_grad()
        (images.mean() if self.shared else images.sum()).backward()
        adam.step()


def build(
    *,
    network: Denoiser,
    method: Literal["O", "N"] = "O",
    sigma: float = 0.5,
    iterations: int = 5,
    learning_rate: float = 0.1,
    shared: bool = False,
    resize: int | None = None,
) -> ScoreOpt:
    """ScoreOpt with `network`; the default numbers are those of its BPDA+EOT evaluation."""
    return ScoreOpt(
        network,
        method=method,
        sigma=sigma,
        iterations=iterations,
        learning_rate=learning_rate,
        shared=shared,
        resize=resize,
    )
