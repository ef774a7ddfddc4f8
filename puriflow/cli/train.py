"""`puriflow train`: training a network of the track."""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Gpus, Threads, leased, track_of
from puriflow.config.track import TRAINABLE, Compute
from puriflow.errors import unknown
from puriflow.registry import family_named

BEHIND_RESULTS = False


def train(
    family: Annotated[str, typer.Argument(help="restorers, networks, classifiers or purifiers")],
    name: Annotated[str, typer.Argument(help="name in the configuration")],
    images: Annotated[Path, typer.Option(help="folder of images to train on")],
    out: Annotated[Path, typer.Option(help="folder for the weights, the card and the log")],
    held_out: Annotated[
        int | None,
        typer.Option(help="number of images kept for measuring; default: the track's", min=1),
    ] = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Train a network by its recipe in the track; what was begun is resumed."""
    if family not in TRAINABLE:
        raise unknown("family to train", family, TRAINABLE)
    track = track_of(config)
    part = track.part(family_named(family).roles[0], name)
    recipe = track.training.recipe(family, name)
    held_out = track.training.held_out if held_out is None else held_out
    with leased(gpus, Compute(), threads) as device:
        from puriflow.training.runs import train_part

        train_part(part, recipe, images=images, held_out=held_out, out=out, device=device)
