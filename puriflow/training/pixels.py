"""Train the density of PixelDefend: bits of a value, the least."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.fitting import check_side
from puriflow.purifiers.pixeldefend import PixelCNN, PixelDefend
from puriflow.randomness import MEASURE_DENOISER, ImageNoise
from puriflow.training.card import table
from puriflow.training.photos import Photos
from puriflow.training.trainer import Predict, Recipe, Run, Trainer, train


class Bits(nn.Module):
    """The loss of a density, in bits of a value: the mean over images of whole numbers."""

    def __init__(self, network: nn.Module):
        super().__init__()
        assert isinstance(network, PixelCNN)
        self.network = network

    def forward(self, values: Tensor) -> Tensor:
        return -self.network.log_likelihood(values).mean() / values[0].numel() / math.log(2)


def train_pixels(purifier: PixelDefend, photos: Photos, recipe: Recipe, run: Run) -> float:
    """Train the network of `purifier`, in place; returns the seconds that it took."""
    device = next(purifier.parameters()).device
    network = purifier.network
    assert isinstance(network, PixelCNN)
    side = network.image_size
    if recipe.crop != side:
        raise UserError(f"crop is {recipe.crop}, but must be the network's image_size, {side}")
    for image in photos.held_out_images():
        check_side("this PixelCNN", image, side)

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        images = photos.crops(recipe.batch, recipe.crop, generator, turned=False)
        return predict((images * 255).round().to(device))

    # a copy, since its convolutions keep to float32 from now on, and decoding is in float64
    trained, seconds = train(Bits(deepcopy(network)), loss, recipe, run)
    network.load_state_dict(trained.get_submodule("network").state_dict())
    return seconds


@torch.no_grad()
def measure_pixels(purifier: PixelDefend, photos: Photos, recipe: Recipe) -> list[str]:
    """For the card: bits of a value, of held-out images and of the same with a random sign in each.

    The signs are of the length of an attack, 8/255: what PixelDefend has to tell from an image.
    """
    device = next(purifier.parameters()).device
    bits: dict[str, list[float]] = {"clean": [], "with noise": [], "with noise, purified": []}
    count = Bits(purifier.network)
    for index, image in enumerate(photos.held_out_images()):
        values = (image * 255).round().to(device)
        noise = ImageNoise(0, MEASURE_DENOISER.format("pixels"), [index])
        noisy = (values + 8 * noise.uniform_like(values, -1, 1).sign()).clamp(0, 255)
        purified = purifier.decoded(noisy / 255) * 255
        for name, one in zip(bits, (values, noisy, purified.round()), strict=True):
            bits[name].append(float(count(one)))
    return table(
        "Mean bits of a value, of held-out images; noise is +-8/255 of each value:",
        ("images", "bits"),
        ((name, f"{sum(each) / len(each):.2f}") for name, each in bits.items()),
    )


TRAINER = Trainer(Recipe, Photos, train_pixels, measure_pixels)
