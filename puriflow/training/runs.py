"""One training run from a configuration entry to weights and a card that says what they are."""

import json
import platform
from pathlib import Path
from typing import Any

import torch

from puriflow import parts
from puriflow.config import validated
from puriflow.errors import Problem
from puriflow.training.diffusion import measure_denoising, train_diffusion
from puriflow.training.fitting import Recipe, Run
from puriflow.training.photos import Photos
from puriflow.training.restorers import RestorerRecipe, measure_enlarging, train_restorer
from puriflow.zoo.weights import save_weights


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
    """Train a restorer or a diffusion network; writes NAME.safetensors, NAME.md and NAME.jsonl.

    Raises:
        Problem: the images or the recipe are unfit, or the part has no network to train.
    """
    photos = Photos(images, held_out=held_out)
    where = f"recipe of {name}"
    recipe = validated(RestorerRecipe if family == "restorers" else Recipe, numbers, where)
    torch.manual_seed(recipe.seed)  # the network's initialisation
    part = parts.build(family, name, {**spec, "weights": None}).to(device)
    if not hasattr(part, "network"):
        raise Problem(f"{family}.{name} has no network to train")
    run = Run(
        name=name,
        identity=json.dumps([spec, recipe.model_dump(), photos.fingerprint], sort_keys=True),
        checkpoint=out / f"{name}.checkpoint",
        log=out / f"{name}.jsonl",
    )
    if family == "restorers":
        seconds = train_restorer(part, photos, recipe, run)
        quality = _enlarging_lines(measure_enlarging(part, photos, recipe))
    else:
        seconds = train_diffusion(part, photos, recipe, run)
        quality = _denoising_lines(measure_denoising(part.network, photos))
    save_weights(part.network, out / f"{name}.safetensors")
    text = card(name, spec, recipe, photos, quality, seconds, part.network, device)
    (out / f"{name}.md").write_text(text)


def card(
    name: str,
    spec: dict[str, Any],
    recipe: Recipe,
    photos: Photos,
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
            f"- data: `{photos.folder.name}`, {len(photos.train)} photographs; the last "
            f"{len(photos.held_out)} in sorted order held out",
            f"- recipe: `{recipe.model_dump_json()}`",
            f"- time: {seconds / 60:.0f} minutes on {device.type} ({platform.machine()}, "
            f"{torch.get_num_threads()} threads), torch {torch.__version__}",
            "",
            *quality,
            "",
        ]
    )


def _enlarging_lines(measured: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        "Mean PSNR on the held-out photographs (resized to 256, cropped to 224), in dB:",
        "",
        "| low-resolution images | network | bicubic | gain |",
        "|---|---|---|---|",
    ]
    for kind, values in measured.items():
        network, bicubic = values["network"], values["bicubic"]
        lines.append(f"| {kind} | {network:.2f} | {bicubic:.2f} | {network - bicubic:+.2f} |")
    return lines


def _denoising_lines(measured: dict[int, float]) -> list[str]:
    head = "Mean PSNR of the one-call estimate of x0 on the held-out photographs, in dB:"
    rows = [f"| {level} | {value:.2f} |" for level, value in measured.items()]
    return [head, "", "| t' | PSNR |", "|---|---|", *rows]
