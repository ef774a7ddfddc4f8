"""A training run: from a part of the track to its weights, and a card that says what they are."""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from puriflow.atomic import sha256
from puriflow.classifiers.normalised import Normalised
from puriflow.config import validated
from puriflow.diffusion.denoisers import Denoiser
from puriflow.errors import UserError
from puriflow.plots import loss
from puriflow.plots.style import save, styled
from puriflow.registry import Part, Weights
from puriflow.restorers.rescaling import UpDown
from puriflow.training.classifiers import (
    Adversary,
    ClassifierRecipe,
    measure_classifier,
    train_classifier,
)
from puriflow.training.diffusion import measure_denoising, train_diffusion
from puriflow.training.labelled import Labelled
from puriflow.training.photos import Photos
from puriflow.training.restorers import (
    RestorerRecipe,
    measure_super_resolution,
    train_restorer,
)
from puriflow.training.trainer import Recipe, Run
from puriflow.zoo.weights import load_weights, save_weights


def train_part(
    part: Part,
    numbers: Mapping[str, Any],
    *,
    images: Path,
    held_out: int,
    out: Path,
    device: torch.device,
) -> None:
    """Train a part; writes NAME.safetensors (half precision), .md (card), .png (curve) and .jsonl.

    Args:
        part: a restorer, a network or a classifier. It starts from random weights, or from those
            that the recipe's `start` names in `out`, never from its own.
        numbers: of the recipe; see `Recipe` and those of its family.
        images: folder to train on.
        held_out: images kept for measuring.
        out: folder of the results and of the checkpoint.
        device: to train on.

    Raises:
        UserError: the images or the recipe are unfit, or the part has no network to train.
    """
    trainer, name = TRAINERS[part.role], part.name
    recipe = validated(trainer.recipe, numbers, f"recipe of {name}")
    data = trainer.data(images, held_out)
    start = getattr(recipe, "start", None)
    first = None if start is None else out / f"{start}.safetensors"
    untrained = replace(part, weights=None if first is None else Weights(str(first), first))
    torch.manual_seed(recipe.seed)  # the network's initialisation
    built = untrained.build().to(device)
    if not hasattr(built, "network"):
        raise UserError(f"{part.role} {name} has no network to train")
    architecture = replace(part, weights=None).entry()
    depends_on = [
        architecture,
        recipe.model_dump(),
        data.fingerprint,
        None if first is None else sha256(first),
    ]
    run = Run(
        name=name,
        identity=json.dumps(depends_on, sort_keys=True),
        checkpoint=out / f"{name}.checkpoint",
        log=out / f"{name}.jsonl",
    )
    seconds = trainer.train(built, data, recipe, run)
    weights = out / f"{name}.safetensors"
    save_weights(built.network, weights, half=True)
    load_weights(built.network, weights)  # what is measured is what was saved
    quality = trainer.quality(built, data, recipe)
    with styled(text=9):
        save(loss.draw(pd.read_json(run.log, lines=True), name), [out / f"{name}.png"])
    text = card(name, architecture, recipe, data, quality, seconds, built.network, device)
    (out / f"{name}.md").write_text(text)


def card(
    name: str,
    architecture: dict[str, Any],
    recipe: Recipe,
    data: Photos | Labelled,
    quality: list[str],
    seconds: float,
    network: nn.Module,
    device: torch.device,
) -> str:
    """Markdown that says what a network is, what it was trained on, and how good it is."""
    parameters = sum(p.numel() for p in network.parameters())
    return "\n".join(
        [
            f"# {name}",
            "",
            f"- network: `{json.dumps(architecture)}`, {parameters:,} parameters",
            f"- data: {data.describe()}",
            f"- recipe: `{recipe.model_dump_json()}`",
            f"- time: {seconds / 60:.0f} minutes on {device.type} ({platform.machine()}, "
            f"{torch.get_num_threads()} threads), torch {torch.__version__}",
            "",
            *quality,
            "",
        ]
    )


def _super_resolution(restorer: UpDown, photos: Photos, recipe: RestorerRecipe) -> list[str]:
    lines = [
        "Mean PSNR on the held-out photographs (resized to 256, cropped to 224), in dB:",
        "",
        "| low-resolution images | network | bicubic | gain |",
        "|---|---|---|---|",
    ]
    for degradation, means in measure_super_resolution(restorer, photos, recipe).items():
        network, bicubic = means["network"], means["bicubic"]
        gain = network - bicubic
        lines.append(f"| {degradation} | {network:.2f} | {bicubic:.2f} | {gain:+.2f} |")
    return lines


def _denoising(denoiser: Denoiser, photos: Photos, recipe: Recipe) -> list[str]:
    head = "Mean PSNR of the one-call estimate of x0 on the held-out images, in dB:"
    measured = measure_denoising(denoiser, photos)
    rows = [f"| {level} | {psnr:.2f} |" for level, psnr in measured.items()]
    return [head, "", "| t' | PSNR |", "|---|---|", *rows]


def _accuracy(classifier: Normalised, data: Labelled, recipe: ClassifierRecipe) -> list[str]:
    adversary = recipe.adversary or Adversary()
    measured = measure_classifier(classifier, data, adversary)
    rows = [f"| {k} | {n} | {100 * hit / n:.2f} % |" for k, (hit, n) in measured.items()]
    head = (
        f"Right answers on test images; attacked by PGD-20 within {adversary.eps:g}/255, "
        f"step {adversary.step_size:g}/255:"
    )
    return [head, "", "| images | n | accuracy |", "|---|---|---|", *rows]


class Trainer(NamedTuple):
    """How the parts of a role are trained and measured.

    Attributes:
        recipe: model of their recipes.
        data: of the folder of images and the number that is held out.
        train: of the built part, the data, the recipe and the run; returns seconds.
        quality: of the built part, the data and the recipe; lines of the card.
    """

    recipe: type[Recipe]
    data: Callable[[Path, int], Photos | Labelled]
    train: Callable[..., float]
    quality: Callable[..., list[str]]


def _photos(folder: Path, held_out: int) -> Photos:
    return Photos(folder, held_out=held_out)


def _labelled(folder: Path, held_out: int) -> Labelled:
    return Labelled(folder)  # whose test images are those that are held out


TRAINERS = {
    "restorer": Trainer(RestorerRecipe, _photos, train_restorer, _super_resolution),
    "network": Trainer(Recipe, _photos, train_diffusion, _denoising),
    "classifier": Trainer(ClassifierRecipe, _labelled, train_classifier, _accuracy),
}
