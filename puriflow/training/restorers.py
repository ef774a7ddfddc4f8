"""Train a super-resolution network on pairs made from photographs, with L1 or adversarially."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.metrics.psnr import psnr
from puriflow.restorers.mdsr import MDSR
from puriflow.restorers.rescaling import UpDown
from puriflow.training.adversarial import GAN, Adversarial
from puriflow.training.degradations import Round, bicubic, real
from puriflow.training.photos import Photos
from puriflow.training.trainer import Predict, Recipe, Run, train


class RestorerRecipe(Recipe):
    """A recipe, and what low-resolution images are; `crop` is the side of these.

    Attributes:
        degradation: `bicubic` for clean pairs, `real` for Real-ESRGAN's degradations.
        rounds: of the `real` degradation.
        start: the restorer of the same track whose trained weights are the start.
        adversarial: what is added to the L1 loss; None for nothing.
    """

    degradation: Literal["bicubic", "real"] = "bicubic"
    rounds: tuple[Round, ...] = (Round(),)
    start: str | None = None
    adversarial: Adversarial | None = None


def train_restorer(restorer: UpDown, photos: Photos, recipe: RestorerRecipe, run: Run) -> float:
    """Train the network of `restorer`, in place; returns the seconds that it took.

    A network with several scales (MDSR) draws one at every step.
    """
    device = next(restorer.parameters()).device
    network = restorer.network
    scales = network.scales if isinstance(network, MDSR) else (restorer.scale,)

    def l1_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        scale = scales[int(torch.randint(len(scales), (1,), generator=generator))]
        if isinstance(network, MDSR):
            network.scale = scale
        high = photos.crops(recipe.batch, recipe.crop * scale, generator)
        low = degrade(high, scale, recipe, generator) * restorer.rgb_range
        low = low.to(device, memory_format=torch.channels_last)
        return F.l1_loss(predict(low).float() / restorer.rgb_range, high.to(device))

    def gan_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        high = photos.crops(recipe.batch, recipe.crop * restorer.scale, generator)
        low = degrade(high, restorer.scale, recipe, generator)
        low = low.to(device, memory_format=torch.channels_last)
        return predict(low, high.to(device, memory_format=torch.channels_last))

    if recipe.adversarial is None:
        restorer.network, seconds = train(restorer.network, l1_loss, recipe, run)
    else:
        if restorer.rgb_range != 1 or len(scales) > 1:
            raise UserError(
                f"{run.name}: adversarial training is for one scale and values in [0, 1]"
            )
        gan = GAN(restorer.network, recipe.adversarial).to(device)
        trained, seconds = train(gan, gan_loss, recipe, run)
        restorer.network = trained.get_submodule("generator")
    if isinstance(restorer.network, MDSR):
        restorer.network.scale = restorer.scale
    return seconds


def degrade(high: Tensor, scale: int, recipe: RestorerRecipe, generator: torch.Generator) -> Tensor:
    """The low-resolution counterpart of photographs (N, 3, H, W), as the recipe says."""
    if recipe.degradation == "bicubic":
        return bicubic(high, scale)
    return real(high, scale, generator, recipe.rounds)


@torch.no_grad()
def measure_super_resolution(
    restorer: UpDown, photos: Photos, recipe: RestorerRecipe
) -> dict[str, dict[str, float]]:
    """Mean PSNR in dB of the network and of bicubic enlargement, by degradation."""
    device = next(restorer.parameters()).device
    means: dict[str, dict[str, float]] = {}
    for degradation in ("bicubic", "real"):
        degraded = recipe.model_copy(update={"degradation": degradation})
        scores: dict[str, list[float]] = {"network": [], "bicubic": []}
        for index, high in enumerate(photos.held_out_images()):
            generator = torch.Generator().manual_seed(index)
            low = degrade(high, restorer.scale, degraded, generator).to(device)
            bicubic_sr = F.interpolate(low, size=high.shape[-2:], mode="bicubic")
            high = high.to(device)
            scores["network"].append(psnr(restorer.upscale(low).clamp(0, 1), high))
            scores["bicubic"].append(psnr(bicubic_sr.clamp(0, 1), high))
        means[degradation] = {name: sum(v) / len(v) for name, v in scores.items()}
    return means
