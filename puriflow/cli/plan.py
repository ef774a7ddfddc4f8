"""`puriflow plan`: does a result fit a GPU, and how many images at once."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, track_of
from puriflow.errors import UserError

BEHIND_RESULTS = False


def plan(
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml and the like")],
    memory: Annotated[
        float, typer.Option(help="of the GPU, in GiB; 24, 40 and 80 are common", min=0.1)
    ] = 24,
    config: ConfigFile = None,
) -> None:
    """Say how much memory the jobs of a result take; exit status 1 if one does not fit.

    It is counted without a GPU and without weights: an image of each job, forwards or with its
    gradient, and the parameters. What cuDNN takes for its own work comes on top.
    """
    from puriflow.results import load_result

    what, track = load_result(file), track_of(config)
    from puriflow.planning import GIB, jobs

    planned = jobs(track, what.stores(track))
    if (first := next(planned, None)) is None:
        raise UserError(f"{file} reads images alone: what it computes is in its own job")
    typer.echo(f"{'parameters':>10} {'an image':>9}  at once  job (GiB; of {memory:g})")
    misfits = 0
    for job in chain([first], planned):
        numbers, fits = f"{'-':>10} {'-':>9}", "not counted"
        if job.needs is not None:
            parameters, image = job.needs.parameters / GIB, job.needs.image / GIB
            numbers = f"{parameters:10.3f} {image:9.3f}"
            count = min(job.most, job.needs.fits(int(memory * GIB)))
            fits = str(count) if count else "none"
            misfits += not count
        typer.echo(f"{numbers}  {fits:>7}  {job.stage} {job.dataset} {job.parts}")
    if misfits:
        raise typer.Exit(1)
