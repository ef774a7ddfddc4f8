"""A classifier smoothed by noise, with a diffusion network as the denoiser in front of it.

Noise e of standard deviation sigma is added to an image on [0, 1] (Cohen et al. 2019), and the base
classifier answers for x + sigma e. On [-1, 1] that is a VE state at 2 sigma, so one call of a
diffusion network takes just this noise away (denoised smoothing, Carlini et al. 2023): the
smoothing's own noise takes the place of a purifier's. Or the base classifier is a defence with its
purifier, which adds noise of its own on top: a random base classifier may be smoothed like any.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from pydantic import Field, InstanceOf, model_validator
from torch import Tensor

from puriflow.config import Certification, explained
from puriflow.defence import Defence
from puriflow.diffusion.denoisers import Denoiser
from puriflow.errors import UserError
from puriflow.options import Sigma
from puriflow.purifiers.base import Callback, Purifier
from puriflow.randomness import CERTIFY, ImageNoise
from puriflow.registry import Part, Parts

BLOCK = 32  # draws computed at once


class Smoothing(Certification):
    """What is smoothed, and by how many draws an image is certified."""

    sigma: Sigma = Field(description="standard deviation of the noise, on [0, 1]")
    parts: Mapping[str, InstanceOf[Part]] = Field(
        description="restorer, which sees the noisy image first; denoiser, a network that takes "
        "the noise away, or purifier in its place, which adds noise of its own; classifier"
    )

    @model_validator(mode="after")
    def _one_diffusion(self) -> Self:
        if {"denoiser", "purifier"} <= self.parts.keys():
            raise ValueError("give a denoiser or a purifier, not both")
        if "classifier" not in self.parts:
            raise ValueError("give a classifier")
        return self

    @classmethod
    def of(cls, numbers: Certification, parts: Parts, sigma: float) -> Self:
        """The smoothing of parts at a sigma, by a track's numbers of draws."""
        given = {**numbers.model_dump(), "sigma": sigma, "parts": parts}
        with explained(cls, "smoothing"):
            return cls.model_validate(given)

    def base(self) -> Defence:
        """The base classifier, built."""
        parts = dict(self.parts)
        denoiser = parts.pop("denoiser", None)
        defence = Defence.from_parts(parts, seed=0)
        if denoiser is not None:
            defence.purifier = OneShot(denoiser.build(), self.sigma)
        return defence


class OneShot(Purifier):
    """Takes noise of `sigma`, on [0, 1], away by one call of a network, in a purifier's place."""

    def __init__(self, denoiser: Denoiser, sigma: float):
        super().__init__(denoiser)
        self.sigma = sigma

    def purify(self, x: Tensor, noise: ImageNoise, callback: Callback | None) -> Tensor:
        """D(x; 2 sigma), clamped; draws nothing."""
        sigma = torch.tensor(2 * self.sigma, dtype=torch.float32)
        return self.denoiser.denoise(x, sigma).clamp(-1, 1)


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
        """
        total = np.zeros((), np.int64)
        for start in range(0, len(draws), BLOCK):
            block = draws[start : start + BLOCK]
            noise = ImageNoise(self.seed, CERTIFY, [index], block)
            copies = image.expand(len(block), -1, -1, -1)
            noisy = copies + self.sigma * noise.normal_like(copies)
            logits = self.base.classify(self.base.purified(noisy, noise)).cpu()
            if not logits.isfinite().all():
                raise UserError(f"image {index}: logits under noise have NaN or infinity")
            total = total + np.bincount(logits.argmax(1).numpy(), minlength=logits.shape[1])
        return total
