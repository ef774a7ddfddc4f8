"""One training run from a configuration entry to weights and a card that says what they are."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from puriflow import registry
from puriflow.config import validated
from puriflow.errors import UserError
from puriflow.plots.loss import plot_curve
from puriflow.provenance import weights_hashes
from puriflow.training.classifiers import (
    Adversary,
    ClassifierRecipe,
    measure_classifier,
    train_classifier,
)
from puriflow.training.diffusion import measure_denoising, train_diffusion
from puriflow.training.fitting import Recipe, Run
from puriflow.training.labelled import Labelled
from puriflow.training.photos import Photos
from puriflow.training.restorers import RestorerRecipe, measure_enlarging, train_restorer
from puriflow.zoo.weights import load_weights, save_weights


def train_part(
    family: str,
    name: str,
    spec: dict[str, Any],
    numbers: dict[str, Any],
    *,
    images: Path,
    held_out: int,
    out: Path,
    device: torch.device,
) -> None:
    """Train a part; writes NAME.safetensors (half precision), .md (card), .png (curve) and .jsonl.

    Raises:
        UserError: the images or the recipe are unfit, or the part has no network to train.
    """
    trainer = TRAINERS[family]
    recipe = validated(trainer.recipe, numbers, f"recipe of {name}")
    data = trainer.data(images, held_out)
    torch.manual_seed(recipe.seed)  # the network's initialisation
    start = getattr(recipe, "start", None)
    first = None if start is None else str(out / f"{start}.safetensors")
    part = registry.build(family, name, {**spec, "weights": first}).to(device)
    if not hasattr(part, "network"):
        raise UserError(f"{family}.{name} has no network to train")
    run = Run(
        name=name,
        identity=json.dumps(
            [spec, recipe.model_dump(), data.fingerprint, weights_hashes({"weights": first})],
            sort_keys=True,
        ),
        checkpoint=out / f"{name}.checkpoint",
        log=out / f"{name}.jsonl",
    )
    seconds = trainer.train(part, data, recipe, run)
    weights = out / f"{name}.safetensors"
    save_weights(part.network, weights, half=True)
    load_weights(part.network, weights)  # what is measured is what was saved
    quality = trainer.quality(part, data, recipe)
    plot_curve(run.log, name, out / f"{name}.png")
    text = card(name, spec, recipe, data, quality, seconds, part.network, device)
    (out / f"{name}.md").write_text(text)


def card(
    name: str,
    spec: dict[str, Any],
    recipe: Recipe,
    data: Photos | Labelled,
    quality: list[str],
    seconds: float,
    network: torch.nn.Module,
    device: torch.device,
) -> str:
    """Markdown that says what a network is, what it was trained on, and how good it is."""
    architecture = {k: v for k, v in spec.items() if k != "weights"}
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


def _enlarging(part: Any, photos: Photos, recipe: RestorerRecipe) -> list[str]:
    lines = [
        "Mean PSNR on the held-out photographs (resized to 256, cropped to 224), in dB:",
        "",
        "| low-resolution images | network | bicubic | gain |",
        "|---|---|---|---|",
    ]
    for kind, values in measure_enlarging(part, photos, recipe).items():
        network, bicubic = values["network"], values["bicubic"]
        lines.append(f"| {kind} | {network:.2f} | {bicubic:.2f} | {network - bicubic:+.2f} |")
    return lines


def _denoising(part: Any, photos: Photos, recipe: Recipe) -> list[str]:
    head = "Mean PSNR of the one-call estimate of x0 on the held-out images, in dB:"
    rows = [f"| {level} | {psnr:.2f} |" for level, psnr in measure_denoising(part, photos).items()]
    return [head, "", "| t' | PSNR |", "|---|---|", *rows]


def _classifying(part: Any, data: Labelled, recipe: ClassifierRecipe) -> list[str]:
    adversary = recipe.adversary or Adversary()
    measured = measure_classifier(part, data, adversary)
    rows = [f"| {k} | {n} | {100 * hit / n:.2f} % |" for k, (hit, n) in measured.items()]
    head = (
        f"Right answers on test images; attacked by PGD-20 within {adversary.eps:g}/255, "
        f"step {adversary.step_size:g}/255:"
    )
    return [head, "", "| images | n | accuracy |", "|---|---|---|", *rows]


class Trainer(NamedTuple):
    """How a family of parts is trained and measured."""

    recipe: type[Recipe]
    data: Callable[[Path, int], Photos | Labelled]
    train: Callable[..., float]
    quality: Callable[..., list[str]]


def _photos(folder: Path, held_out: int) -> Photos:
    return Photos(folder, held_out=held_out)


TRAINERS = {
    "restorers": Trainer(RestorerRecipe, _photos, train_restorer, _enlarging),
    "networks": Trainer(Recipe, _photos, train_diffusion, _denoising),
    "classifiers": Trainer(
        ClassifierRecipe, lambda folder, _: Labelled(folder), train_classifier, _classifying
    ),
}
