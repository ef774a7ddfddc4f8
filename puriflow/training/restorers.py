"""Train a super-resolution network on pairs made from photographs, with L1 or adversarially."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.metrics.psnr import psnr
from puriflow.restorers.rescaling import UpDown
from puriflow.training.adversarial import Adversarial, Game
from puriflow.training.degradations import Round, bicubic, real
from puriflow.training.fitting import Recipe, Run, fit
from puriflow.training.photos import Photos


class RestorerRecipe(Recipe):
    """A recipe and the kind of low-resolution images; `crop` is the side of these.

    `start` names the restorer of the same track whose trained weights are the start; `adversarial`
    adds its terms to the L1 loss.
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
    scales: Sequence[int] = getattr(restorer.network, "scales", (restorer.scale,))

    def loss(predict: Callable[..., Tensor], generator: torch.Generator) -> Tensor:
        scale = scales[int(torch.randint(len(scales), (1,), generator=generator))]
        if len(scales) > 1:
            restorer.network.scale = scale
        high = photos.crops(recipe.batch, recipe.crop * scale, generator)
        low = degrade(high, scale, recipe, generator) * restorer.value_range
        low = low.to(device, memory_format=torch.channels_last)
        return F.l1_loss(predict(low).float() / restorer.value_range, high.to(device))

    def loss_of_both(predict: Callable[..., Tensor], generator: torch.Generator) -> Tensor:
        high = photos.crops(recipe.batch, recipe.crop * restorer.scale, generator)
        low = degrade(high, restorer.scale, recipe, generator)
        low = low.to(device, memory_format=torch.channels_last)
        return predict(low, high.to(device, memory_format=torch.channels_last))

    if recipe.adversarial is None:
        restorer.network, seconds = fit(restorer.network, loss, recipe, run)
    else:
        if restorer.value_range != 1 or len(scales) > 1:
            raise UserError(
                f"{run.name}: adversarial training is for one scale and values in [0, 1]"
            )
        game = Game(restorer.network, recipe.adversarial).to(device)
        trained, seconds = fit(game, loss_of_both, recipe, run)
        restorer.network = trained.network
    if len(scales) > 1:
        restorer.network.scale = restorer.scale
    return seconds


def degrade(high: Tensor, scale: int, recipe: RestorerRecipe, generator: torch.Generator) -> Tensor:
    """The low-resolution counterpart of photographs (N, 3, H, W), as the recipe says."""
    if recipe.degradation == "bicubic":
        return bicubic(high, scale)
    return real(high, scale, generator, recipe.rounds)


@torch.no_grad()
def measure_enlarging(
    restorer: UpDown, photos: Photos, recipe: RestorerRecipe
) -> dict[str, dict[str, float]]:
    """Mean PSNR in dB of the network and of bicubic enlargement, on both degradations."""
    device = next(restorer.parameters()).device
    result: dict[str, dict[str, float]] = {}
    for kind in ("bicubic", "real"):
        scores: dict[str, list[float]] = {"network": [], "bicubic": []}
        for index, high in enumerate(photos.measured()):
            generator = torch.Generator().manual_seed(index)
            kinds = recipe.model_copy(update={"degradation": kind})
            low = degrade(high, restorer.scale, kinds, generator).to(device)
            plain = F.interpolate(low, size=high.shape[-2:], mode="bicubic")
            high = high.to(device)
            scores["network"].append(psnr(restorer.upscale(low).clamp(0, 1), high))
            scores["bicubic"].append(psnr(plain.clamp(0, 1), high))
        result[kind] = {name: sum(v) / len(v) for name, v in scores.items()}
    return result
