"""A training run: from a part of the track to its weights, and a card that says what they are."""

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from puriflow.atomic import sha256, write_text
from puriflow.checksums import SUMS, read_sums, recorded
from puriflow.config import validated
from puriflow.errors import UserError
from puriflow.plots import loss
from puriflow.provenance import code_hash
from puriflow.registry import Part, Weights
from puriflow.training.card import card
from puriflow.training.classifiers import ClassifierRecipe, measure_classifier, train_classifier
from puriflow.training.diffusion import measure_diffusion, train_diffusion
from puriflow.training.energies import EnergyRecipe, measure_energy, train_energy
from puriflow.training.labelled import Labelled
from puriflow.training.patches import PatchRecipe, collect_patches, measure_quilting
from puriflow.training.photos import Photos
from puriflow.training.pixels import measure_pixels, train_pixels
from puriflow.training.restorers import RestorerRecipe, measure_restorer, train_restorer
from puriflow.training.trainer import Recipe, Run
from puriflow.zoo.weights import load_weights, save_weights


class Trainer(NamedTuple):
    """How the parts of a role, or of a kind, are trained and measured."""

    recipe: type[Recipe] | type[PatchRecipe]
    data: Callable[[Path, int], Photos | Labelled]  # of a folder, and how many are held out
    train: Callable[..., float]  # of the built part, the data, the recipe and the run; seconds
    measure: Callable[..., list[str]]  # of the built part, the data and the recipe; for the card


def _labelled(folder: Path, held_out: int) -> Labelled:
    return Labelled(folder)  # whose test images are those that are held out


TRAINERS = {
    "quilting": Trainer(PatchRecipe, Photos, collect_patches, measure_quilting),
    "langevin": Trainer(EnergyRecipe, Photos, train_energy, measure_energy),
    "pixeldefend": Trainer(Recipe, Photos, train_pixels, measure_pixels),
    "restorer": Trainer(RestorerRecipe, Photos, train_restorer, measure_restorer),
    "network": Trainer(Recipe, Photos, train_diffusion, measure_diffusion),
    "classifier": Trainer(ClassifierRecipe, _labelled, train_classifier, measure_classifier),
}


def train_part(
    part: Part,
    numbers: Mapping[str, Any],
    *,
    images: Path,
    held_out: int,
    out: Path,
    device: torch.device,
) -> None:
    """Train a restorer, a network or a classifier by the numbers of its recipe.

    Writes NAME.safetensors (half precision) and its .sha256, NAME.md (card), .png (curve) and
    .jsonl (log) to `out`. A part starts from random weights, or from those that the recipe's
    `start` names in `out`, never from its own. Of the folder `images`, `held_out` are kept for
    measuring. NAME.checkpoint keeps what was trained until all of these are on the disk.

    Raises:
        UserError: the images or the recipe are unfit, the part has no network to train, or the
            SHA256SUMS of `out` lists its weights.
    """
    trainer, name = TRAINERS.get(part.kind) or TRAINERS.get(part.role), part.name
    if trainer is None:
        known = ", ".join(TRAINERS)
        raise UserError(f"{part.role} {name} of kind {part.kind} is not trained; known are {known}")
    weights = out / f"{name}.safetensors"
    if weights.name in read_sums(out / SUMS):  # which refuses any other, after all the work
        raise UserError(f"{weights} is published by {out / SUMS}: name another folder")
    recipe = validated(trainer.recipe, numbers, f"recipe of {name}")
    data = trainer.data(images, held_out)
    start = getattr(recipe, "start", None)
    first = None if start is None else out / f"{start}.safetensors"
    weights_of_start = None if first is None else Weights(str(first), first)
    untrained = replace(part.untrained(), weights=weights_of_start)
    torch.manual_seed(recipe.seed)  # the network's initialisation
    built = untrained.build().to(device)
    if not hasattr(built, "network"):
        raise UserError(f"{part.role} {name} has no network to train")
    architecture = part.untrained().entry()
    start_hash = None if first is None else sha256(first)
    code = code_hash(__name__, *part.modules(), *getattr(recipe, "modules", ()))
    depends_on = [architecture, recipe.model_dump(), data.fingerprint, start_hash, code]
    run = Run(
        name=name,
        identity=json.dumps(depends_on, sort_keys=True),
        checkpoint=out / f"{name}.checkpoint",
        log=out / f"{name}.jsonl",
    )
    seconds = trainer.train(built, data, recipe, run)
    save_weights(built.network, weights, half=True)
    write_text(recorded(weights), sha256(weights) + "\n")
    load_weights(built.network, weights)  # what is measured is what was saved
    quality = trainer.measure(built, data, recipe)
    loss.plot(pd.read_json(run.log, lines=True), name, out / f"{name}.png")
    parameters = sum(p.numel() for p in built.network.parameters())
    facts = {
        "network": f"`{json.dumps(architecture)}`, {parameters:,} parameters",
        "data": data.describe(),
        "recipe": f"`{recipe.model_dump_json()}`",
        "time": f"{seconds / 60:.0f} minutes on {device.type} ({platform.machine()}, "
        f"{torch.get_num_threads()} threads), torch {torch.__version__}",
    }
    write_text(out / f"{name}.md", card(name, facts, quality))
    run.checkpoint.unlink(missing_ok=True)  # the last of all
