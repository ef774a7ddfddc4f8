"""A classifier smoothed by noise, with a diffusion network as the denoiser in front of it.

Noise e of standard deviation sigma is added to an image on [0, 1] (Cohen et al. 2019), and the base
classifier answers for x + sigma e. On [-1, 1] that is a VE state at 2 sigma, so one call of a
diffusion network takes just this noise away (denoised smoothing, Carlini et al. 2023): the
smoothing's own noise takes the place of a purifier's. Or the base classifier is a defence with its
purifier, which adds noise of its own on top: a random base classifier may be smoothed like any.
"""

from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from puriflow import registry
from puriflow.defence import Defence
from puriflow.diffusion.denoisers import Denoiser
from puriflow.errors import UserError
from puriflow.randomness import ImageNoise

BLOCK = 32  # draws computed at once
Part = dict[str, Any]


class Smoothing(BaseModel):
    """What is smoothed, and by how many draws an image is certified."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sigma: float = Field(gt=0, description="standard deviation of the noise, on [0, 1]")
    n0: int = Field(ge=1, description="draws that choose the class")
    n: int = Field(ge=1, description="draws that bound its chance")
    alpha: float = Field(gt=0, lt=1, description="chance that a certificate is wrong")
    restorer: Part | None = Field(None, description="sees the noisy image first")
    denoiser: Part | None = Field(None, description="network that takes the noise away")
    purifier: Part | None = Field(None, description="in place of a denoiser; adds its own noise")
    classifier: Part

    @model_validator(mode="after")
    def _one_diffusion(self) -> Self:
        if self.denoiser and self.purifier:
            raise ValueError("give a denoiser or a purifier, not both")
        return self

    def modules(self) -> list[str]:
        """Names of the modules that build the base classifier."""
        network = [] if self.denoiser is None else registry.modules_of("networks", self.denoiser)
        return [*registry.modules_of_defence(self._defence()), *network]

    def base(self) -> Defence:
        """The base classifier.

        Raises:
            UserError: a part cannot be built.
        """
        specs = self._defence()
        defence = Defence.from_specs({role: role for role in specs}, specs, seed=0)
        if self.denoiser is not None:
            network = registry.build("networks", "denoiser", self.denoiser)
            defence.purifier = OneShot(network, self.sigma)
        return defence.eval().requires_grad_(False)

    def _defence(self) -> dict[str, Part | None]:
        roles = ("restorer", "purifier", "classifier")
        return {role: getattr(self, role) for role in roles}


class OneShot(nn.Module):
    """Takes smoothing noise away by one call of a network; in the purifier's place of a defence.

    Args:
        denoiser: the network.
        sigma: of the noise, on [0, 1].
    """

    def __init__(self, denoiser: Denoiser, sigma: float):
        super().__init__()
        self.denoiser, self.sigma = denoiser, sigma

    def forward(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """D(2 images - 1; 2 sigma), clamped and on [0, 1] again; draws nothing."""
        clean = self.denoiser.denoise(images * 2 - 1, torch.tensor(2 * self.sigma))
        return (clean.clamp(-1, 1) + 1) / 2


class _Repeated(ImageNoise):
    """Noise for copies of one image, one draw for each copy."""

    def __init__(self, seed: int, index: int, draws: range):
        self.generators = [
            generator
            for draw in draws
            for generator in ImageNoise(seed, "certify", [index], draw).generators
        ]


class Smoothed:
    """A base classifier under noise. Its answers are what is counted; it is never averaged.

    Args:
        base: the base classifier.
        sigma: standard deviation of the noise, on [0, 1].
        seed: of the noise; a draw's purifier draws from the same generator, behind it.
    """

    def __init__(self, base: Defence, sigma: float, seed: int):
        self.base, self.sigma, self.seed = base, sigma, seed

    @torch.no_grad()
    def counts(self, image: Tensor, index: int, draws: range) -> np.ndarray:
        """How often each class is the answer: int64 (classes,).

        Args:
            image: (3, H, W) in [0, 1]; the noisy one is not clamped, as published.
            index: of the image in its data set, which selects its noise.
            draws: numbers of the repetitions, 1 or more.

        Raises:
            UserError: the classifier's answer is NaN or infinite.
        """
        total = np.zeros((), np.int64)
        for start in range(0, len(draws), BLOCK):
            block = draws[start : start + BLOCK]
            noise = _Repeated(self.seed, index, block)
            copies = image.expand(len(block), -1, -1, -1)
            noisy = copies + self.sigma * noise.normal_like(copies)
            logits = self.base.classifier(self.base.purified(noisy, noise)).cpu()
            if not logits.isfinite().all():
                raise UserError(f"image {index}: logits under noise have NaN or infinity")
            total = total + np.bincount(logits.argmax(1).numpy(), minlength=logits.shape[1])
        return total
