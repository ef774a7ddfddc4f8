"""`puriflow stage`: one stage of a chain each, as the rules of the workflow call them."""

import re
from typing import Annotated

import typer

from puriflow.chain import victim_roles
from puriflow.cli.options import (
    Batch,
    ConfigFile,
    Gpus,
    Out,
    Seed,
    Source,
    batch_of,
    leased,
    track_of,
)
from puriflow.config.track import MOST_DRAWS
from puriflow.errors import UserError
from puriflow.lineage import open_in_chain
from puriflow.options import MOST_SEED, shown
from puriflow.registry import NONE

BEHIND_RESULTS = False
SHARD = re.compile(r"([0-9]{1,9})-of-([0-9]{1,9})")
app = typer.Typer(help="Stages of a chain, for rules and experts.", no_args_is_help=True)


@app.command()
def images(
    dataset: Annotated[str, typer.Argument(help="name of the data set")],
    out: Out,
    subset: Annotated[
        int | None, typer.Option(help="number of images drawn at random; default: the entry's")
    ] = None,
    subset_seed: Annotated[
        list[int] | None,
        typer.Option(
            help="seed of the random draw; repeat it for the union; default: the entry's",
            min=0,
            max=MOST_SEED,
        ),
    ] = None,
    shard: Annotated[str, typer.Option(help="part of the images, INDEX-of-COUNT")] = "0-of-1",
    config: ConfigFile = None,
) -> None:
    """Store the images of a data set."""
    from puriflow.stages.images import write_images

    if not (numbers := SHARD.fullmatch(shard)):
        raise UserError(f"shard {shown(shard)} is not of the form 0-of-1")
    index, count = map(int, numbers.groups())
    track = track_of(config)
    entry = track.dataset(dataset)
    write_images(
        out,
        track.part("dataset", dataset),
        subset=entry.subset if subset is None else subset,
        subset_seeds=subset_seed or entry.subset_seeds,
        shard=index,
        shards=count,
    )


@app.command()
def attack(
    source: Source,
    out: Out,
    attack: Annotated[str, typer.Option(help="name of the attack")],
    victim: Annotated[str, typer.Option(help="classifier, or restorer.purifier.classifier")],
    seed: Seed = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = None,
) -> None:
    """Make adversarial images of a victim: a bare classifier, or a whole defence."""
    stage, track = open_in_chain(source), track_of(config)
    part, parts = track.part("attack", attack), track.parts(victim_roles(victim))
    if "classifier" not in parts:
        raise UserError(f"victim {victim} has no classifier, whose logits are attacked")
    seed = track.seed if seed is None else seed
    with leased(gpus, track.compute) as device:
        from puriflow.stages.attack import write_attack

        write_attack(
            stage, out, part, parts, seed=seed, device=device, batch=batch_of(track, batch)
        )


@app.command()
def restore(
    source: Source,
    out: Out,
    restorer: Annotated[str, typer.Option(help="name of the restorer")],
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = None,
) -> None:
    """Restore images: super-resolution and back, or a classical denoiser."""
    stage, track = open_in_chain(source), track_of(config)
    part = track.part("restorer", restorer)
    with leased(gpus, track.compute) as device:
        from puriflow.stages.restore import write_restored

        write_restored(stage, out, part, device=device, batch=batch_of(track, batch))


@app.command()
def purify(
    source: Source,
    out: Out,
    purifier: Annotated[str, typer.Option(help="name of the purifier")],
    seed: Seed = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = None,
) -> None:
    """Purify the images of a finished stage."""
    stage, track = open_in_chain(source), track_of(config)
    part = track.part("purifier", purifier)
    seed = track.seed if seed is None else seed
    with leased(gpus, track.compute) as device:
        from puriflow.stages.purify import write_purified

        write_purified(stage, out, part, seed=seed, device=device, batch=batch_of(track, batch))


@app.command()
def classify(
    source: Source,
    out: Out,
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = None,
) -> None:
    """Store a classifier's logits of images."""
    stage, track = open_in_chain(source), track_of(config)
    part = track.part("classifier", classifier)
    with leased(gpus, track.compute) as device:
        from puriflow.stages.classify import write_logits

        write_logits(stage, out, part, device=device, batch=batch_of(track, batch))


@app.command()
def evaluate(
    source: Source,
    out: Out,
    purifier: Annotated[str, typer.Option(help="name of the purifier")],
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    n_draws: Annotated[
        int, typer.Option(help="number of purifications of each image", min=2, max=MOST_DRAWS)
    ],
    seed: Seed = None,
    gpus: Gpus = 1,
    batch: Batch = None,
    config: ConfigFile = None,
) -> None:
    """Purify and classify several times: the logits of every draw, and how far these lie apart."""
    stage, track = open_in_chain(source), track_of(config)
    parts = track.part("purifier", purifier), track.part("classifier", classifier)
    seed = track.seed if seed is None else seed
    with leased(gpus, track.compute) as device:
        from puriflow.stages.evaluate import write_evaluated

        write_evaluated(
            stage,
            out,
            *parts,
            n_draws=n_draws,
            seed=seed,
            device=device,
            batch=batch_of(track, batch),
        )


@app.command()
def certify(
    source: Source,
    out: Out,
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    sigma: Annotated[float, typer.Option(help="standard deviation of the noise, on [0, 1]")],
    restorer: Annotated[str, typer.Option(help="name of the restorer")] = NONE,
    denoiser: Annotated[str, typer.Option(help="name of the network that denoises")] = NONE,
    purifier: Annotated[str, typer.Option(help="name of a purifier instead of a denoiser")] = NONE,
    seed: Seed = None,
    gpus: Gpus = 1,
    batch: Annotated[int | None, typer.Option(help="number of images between two saves")] = 1,
    config: ConfigFile = None,
) -> None:
    """Certify images by randomised smoothing: classes and L2 radii."""
    stage, track = open_in_chain(source), track_of(config)
    roles = {"restorer": restorer, "denoiser": denoiser, "purifier": purifier}
    parts = track.parts({**roles, "classifier": classifier})
    seed = track.seed if seed is None else seed
    with leased(gpus, track.compute) as device:
        from puriflow.smoothing import Smoothing
        from puriflow.stages.certify import write_certified

        smoothing = Smoothing.of(track.certification, parts, sigma)
        write_certified(stage, out, smoothing, seed=seed, device=device, batch=batch)
