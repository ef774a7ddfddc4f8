"""Randomness that belongs to an image, never to its batch, shard, worker or order.

Every draw comes from a generator seeded by (seed, stage, image index, draw). Noise is drawn on the
CPU and moved, so that a GPU sees the same numbers.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(*parts: object) -> int:
    """A 63-bit seed from any sequence of names and numbers."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Draws:
    """All the noise of an attack on a random defence, by (seed, image, step, draw).

    Args:
        seed: of the whole run.
        indices: data-set index of each image of the batch.
        fixed: every draw of the defence is the first one of the purify stage.
    """

    def __init__(self, seed: int, indices: Sequence[int], *, fixed: bool = False):
        self.seed = seed
        self.indices = list(indices)
        self.fixed = fixed

    def take(self, positions: Sequence[int]) -> "Draws":
        """The same for some of the images, by their positions in the batch."""
        return Draws(self.seed, [self.indices[i] for i in positions], fixed=self.fixed)

    def start(self, step: int | str = "", draw: int = 0) -> "ImageNoise":
        """What the attack itself draws, such as its random start."""
        stage = f"attack start {step}" if step != "" else "attack"
        return ImageNoise(self.seed, stage, self.indices, draw)

    def defence(self, step: int | str, draw: int) -> "ImageNoise":
        """The defence's noise at a step of the attack, for its repetition `draw`."""
        if self.fixed:
            return ImageNoise(self.seed, "purify", self.indices)
        return ImageNoise(self.seed, f"attack {step}", self.indices, draw)


class ImageNoise:
    """Draws for a batch of images, one generator for each.

    Args:
        seed: of the whole run.
        stage: a word that keeps the draws of different stages apart.
        indices: data-set index of each image of the batch.
        draw: number of the repetition (EOT, votes).
    """

    def __init__(self, seed: int, stage: str, indices: Sequence[int], draw: int = 0):
        import torch

        self.generators = [
            torch.Generator().manual_seed(derive(seed, stage, int(i), draw)) for i in indices
        ]

    def normal_like(self, images: "torch.Tensor") -> "torch.Tensor":
        """Standard normal noise of the shape, type and device of images (N, ...)."""
        return self._stack(images, lambda x, g: x.normal_(generator=g))

    def uniform_like(self, images: "torch.Tensor", low: float, high: float) -> "torch.Tensor":
        """Uniform noise in [low, high) of the shape, type and device of images (N, ...)."""
        return self._stack(images, lambda x, g: x.uniform_(low, high, generator=g))

    def integers(self, low: int, high: int) -> "torch.Tensor":
        """An integer in [low, high) for each image: (N,)."""
        import torch

        drawn = [torch.randint(low, high, (), generator=g) for g in self.generators]
        return torch.stack(drawn)

    def uniform(self, low: float, high: float) -> "torch.Tensor":
        """A number in [low, high) for each image: (N,) float64."""
        import torch

        drawn = [
            torch.empty((), dtype=torch.float64).uniform_(low, high, generator=g)
            for g in self.generators
        ]
        return torch.stack(drawn)

    def _stack(self, images, fill):
        import torch

        if len(images) != len(self.generators):
            raise ValueError(f"{len(images)} images, but noise for {len(self.generators)}")
        shape = images.shape[1:]
        drawn = [fill(torch.empty(shape), g) for g in self.generators]
        return torch.stack(drawn).to(device=images.device, dtype=images.dtype)
