"""A module that draws random numbers by itself, with the noise of an image in the place of its own.

So a purifier of somebody else's, or a whole defence, with a plain `forward(x)`, draws as this
project's do: by image and draw, never by batch or order.
"""

import inspect

import torch
from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.randomness import ImageNoise


class Drawing(nn.Module):
    """A module that draws random numbers by itself, in the place of a purifier, whose noise it has.

    It draws from torch's own generator, which is seeded by the noise of each image, and is as
    before afterwards. One that draws elsewhere is not repeatable.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """What the module makes of images (N, 3, H, W), one by one: images, or logits."""
        seeds = [generator.initial_seed() for generator in noise.generators]
        rows = [self.together(images[i : i + 1], seed) for i, seed in enumerate(seeds)]
        return torch.cat(rows)

    def surrogate(self) -> nn.Module:
        """As of a purifier of ours, which may have a surrogate; a UserError."""
        raise UserError(
            f"{type(self.module).__name__} has no surrogate of its own, as ScoreOpt has"
        )

    def together(self, images: Tensor, seed: int) -> Tensor:
        """The same of images as one batch, which has one seed."""
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self.module(images)


def takes_noise(purifier: nn.Module) -> bool:
    """Whether a purifier is called with images and their `noise`, and not with images alone."""
    return list(inspect.signature(purifier.forward).parameters)[1:2] == ["noise"]
