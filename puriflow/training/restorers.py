"""Train a super-resolution network on pairs made from photographs, with L1 or adversarially."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.metrics.psnr import psnr
from puriflow.options import Channels
from puriflow.restorers.mdsr import MDSR
from puriflow.restorers.rescaling import UpDown
from puriflow.restorers.sesr import SESR, OfLuma, luma
from puriflow.training.adversarial import GAN, Adversarial
from puriflow.training.card import table
from puriflow.training.degradations import Round, bicubic, real
from puriflow.training.photos import Photos
from puriflow.training.trainer import Loss, Predict, Recipe, Run, train


class RestorerRecipe(Recipe):
    """A recipe, and what low-resolution images are; `crop` is the side of these."""

    degradation: Literal["bicubic", "real"] = "bicubic"  # clean pairs, or Real-ESRGAN's
    rounds: tuple[Round, ...] = (Round(),)  # of the `real` degradation
    start: str | None = None  # the restorer of the same track whose trained weights are the start
    adversarial: Adversarial | None = None  # what is added to the L1 loss
    expansion: Channels | None = None  # SESR's p while it is trained; None: trained collapsed


def train_restorer(restorer: UpDown, photos: Photos, recipe: RestorerRecipe, run: Run) -> float:
    """Train the network of `restorer`, in place; returns the seconds that it took.

    A network with several scales (MDSR) draws one at every step.
    """
    device = next(restorer.parameters()).device
    network = restorer.network
    scales = network.scales if isinstance(network, MDSR) else (restorer.scale,)

    def pair(scale: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        high = photos.crops(recipe.batch, recipe.crop * scale, generator)
        low = degrade(high, scale, recipe, generator) * restorer.rgb_range
        return low.to(device, memory_format=torch.channels_last), high.to(device)

    def l1_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        scale = scales[int(torch.randint(len(scales), (1,), generator=generator))]
        if isinstance(network, MDSR):
            network.scale = scale
        low, high = pair(scale, generator)
        return F.l1_loss(predict(low).float() / restorer.rgb_range, high)

    def gan_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        low, high = pair(restorer.scale, generator)
        return predict(low, high.to(memory_format=torch.channels_last))

    def luma_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        low, high = pair(restorer.scale, generator)
        return F.l1_loss(predict(luma(low)).float(), luma(high))

    if recipe.expansion is not None:
        return _train_expanded(network, recipe.expansion, luma_loss, recipe, run)
    if recipe.adversarial is None:
        restorer.network, seconds = train(network, l1_loss, recipe, run)
    else:
        if restorer.rgb_range != 1 or len(scales) > 1:
            raise UserError(
                f"{run.name}: adversarial training is for one scale and values in [0, 1]"
            )
        gan = GAN(network, recipe.adversarial).to(device)
        trained, seconds = train(gan, gan_loss, recipe, run)
        restorer.network = trained.get_submodule("generator")
    if isinstance(restorer.network, MDSR):
        restorer.network.scale = restorer.scale
    return seconds


def _train_expanded(
    network: nn.Module, p: int, loss: Loss, recipe: RestorerRecipe, run: Run
) -> float:
    """Train SESR by its blocks of p channels, and collapse it; returns the seconds."""
    if (
        not isinstance(network, OfLuma)
        or recipe.adversarial is not None
        or recipe.start is not None
    ):
        raise UserError(f"{run.name}: expansion is for SESR, from its first step, with L1 alone")
    trained, seconds = train(network.network.expanded(p), loss, recipe, run)
    assert isinstance(trained, SESR)
    network.network = trained.collapsed()
    return seconds


def degrade(high: Tensor, scale: int, recipe: RestorerRecipe, generator: torch.Generator) -> Tensor:
    """The low-resolution counterpart of photographs (N, 3, H, W), as the recipe says."""
    if recipe.degradation == "bicubic":
        return bicubic(high, scale)
    return real(high, scale, generator, recipe.rounds)


@torch.no_grad()
def measure_restorer(restorer: UpDown, photos: Photos, recipe: RestorerRecipe) -> list[str]:
    """For the card: mean PSNR of the network and of bicubic enlargement, by degradation."""
    device = next(restorer.parameters()).device
    rows = []
    for degradation in ("bicubic", "real"):
        degraded = recipe.model_copy(update={"degradation": degradation})
        scores = []
        for index, high in enumerate(photos.held_out_images()):
            generator = torch.Generator().manual_seed(index)
            low = degrade(high, restorer.scale, degraded, generator).to(device)
            enlarged = F.interpolate(low, size=high.shape[-2:], mode="bicubic")
            pair = (restorer.upscale(low), enlarged)
            scores.append([psnr(sr.clamp(0, 1), high.to(device)) for sr in pair])
        network, baseline = (sum(values) / len(scores) for values in zip(*scores, strict=True))
        gain = network - baseline
        rows.append((degradation, f"{network:.2f}", f"{baseline:.2f}", f"{gain:+.2f}"))
    return table(
        "Mean PSNR on the held-out photographs (resized to 256, cropped to 224), in dB:",
        ("low-resolution images", "network", "bicubic", "gain"),
        rows,
    )
