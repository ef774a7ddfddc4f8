"""A training run: from a part of the track to its weights, and a card that says what they are."""

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from puriflow.atomic import sha256, write_text
from puriflow.checksums import SUMS, read_sums, recorded
from puriflow.config import validated
from puriflow.errors import UserError
from puriflow.plots import loss
from puriflow.provenance import code_hash
from puriflow.registry import Part, Weights, family_of, kinds
from puriflow.sources import file_of, no_module
from puriflow.training.card import card
from puriflow.training.classifiers import ClassifierRecipe, measure_classifier, train_classifier
from puriflow.training.diffusion import measure_diffusion, train_diffusion
from puriflow.training.labelled import Labelled
from puriflow.training.photos import Photos
from puriflow.training.restorers import RestorerRecipe, measure_restorer, train_restorer
from puriflow.training.trainer import Recipe, Run, Trainer
from puriflow.zoo.weights import load_weights, save_weights


def _labelled(folder: Path, held_out: int) -> Labelled:
    return Labelled(folder)  # whose test images are those that are held out


TRAINERS = {  # by role; a kind that is trained otherwise says by which module (`TRAINED_BY`)
    "restorer": Trainer(RestorerRecipe, Photos, train_restorer, measure_restorer),
    "network": Trainer(Recipe, Photos, train_diffusion, measure_diffusion),
    "classifier": Trainer(ClassifierRecipe, _labelled, train_classifier, measure_classifier),
}


def trainer_of(part: Part) -> Trainer:
    """How a part is trained: by its kind, or else by its role.

    Raises:
        UserError: it is not trained, or what its kind names is no trainer.
    """
    for module in part.known.trained_by:
        if file_of(module) is None:
            raise no_module(module)
        trainer = getattr(import_module(module), "TRAINER", None)
        if not isinstance(trainer, Trainer):
            raise UserError(f"{module}, by which {part.kind} is trained, has no TRAINER")
        return trainer
    if part.role not in TRAINERS:
        family = kinds(family_of(part.role).section)
        known = ", ".join(name for name, kind in family.items() if kind.trained_by) or "none"
        raise UserError(
            f"{part.role} {part.name} of kind {part.kind} is not trained; known are {known}"
        )
    return TRAINERS[part.role]


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
    trainer, name = trainer_of(part), part.name
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
    others = (*part.modules(), *part.known.trained_by, *getattr(recipe, "modules", ()))
    code = code_hash(__name__, *others)
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
