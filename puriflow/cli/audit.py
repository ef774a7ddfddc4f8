"""`puriflow audit`: is the accuracy that an attack leaves a defence to be believed?"""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Gpus, Seed, leased, track_of
from puriflow.errors import UserError
from puriflow.registry import NONE

BEHIND_RESULTS = False


def audit(
    classifier: Annotated[str, typer.Option(help="name of the classifier")],
    restorer: Annotated[str, typer.Option(help="name of the restorer")] = NONE,
    purifier: Annotated[str, typer.Option(help="name of the purifier")] = NONE,
    attack: Annotated[str, typer.Option(help="name of the attack that is judged")] = "pgd-linf8",
    dataset: Annotated[str, typer.Option(help="name of the data set")] = "cifar10",
    count: Annotated[int, typer.Option(help="number of images, the first; 2 or more")] = 10,
    quick: Annotated[
        bool, typer.Option("--quick", help="only what asks no more than a run or two of the attack")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="file of the audit as JSON")] = None,
    seed: Seed = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Check whether an attack on a defence is to be believed; exit status 1 if a check failed."""
    if out is not None and out.is_dir():
        raise UserError(f"{out} is a folder, but must be a file")
    track = track_of(config)
    victim = track.parts({"restorer": restorer, "purifier": purifier, "classifier": classifier})
    if "classifier" not in victim:
        raise UserError("a defence without a classifier has no logits: name a classifier")
    attacking, entry = track.part("attack", attack), track.dataset(dataset)
    part = track.part("dataset", dataset)
    with leased(gpus, track.compute) as device:
        from puriflow.atomic import write_text
        from puriflow.auditing.audit import check_count, of_parts
        from puriflow.datasets.samples import first_of

        check_count(count)
        drawn = {"subset": entry.subset, "seeds": entry.subset_seeds}
        arrays = first_of(part.build(), count, **drawn)
        seed = track.seed if seed is None else seed
        found = of_parts(victim, attacking, *arrays, seed=seed, device=device, quick=quick)
        if out is not None:
            write_text(out, found.to_json())
    typer.echo(found)
    if found.failed:
        raise typer.Exit(1)
