"""`puriflow plan`: what a result takes before it runs: jobs, evaluations, hours, disk, memory."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puriflow.cli.options import ConfigFile, Results, track_of
from puriflow.errors import UserError

if TYPE_CHECKING:
    from puriflow.planning import Job

BEHIND_RESULTS = False
GB = 1e9
HEAD = f"{'parameters':>10} {'an image':>9}  at once   jobs   left {'evaluations left':>18}"


def plan(
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml and the like")],
    memory: Annotated[
        float, typer.Option(help="of the GPU, in GiB; 24, 40 and 80 are common", min=0.1)
    ] = 24,
    results: Results = Path("results"),
    config: ConfigFile = None,
) -> None:
    """Say what the jobs of a result take before they run; exit status 1 if one does not fit.

    Memory is counted without a GPU and without weights: an image of each job, forwards or with its
    gradient, and the parameters. What cuDNN takes for its own work comes on top. Evaluations are
    those of diffusion networks, of attacks at most; what is there already is left out. Hours are
    said where a purification by that network was timed.
    """
    from puriflow.results import load_result

    what, track = load_result(file), track_of(config)
    stores = what.stores(track)
    from puriflow.evaluations import Evaluations
    from puriflow.lineage import Place
    from puriflow.planning import images_of, in_shards, jobs, stored, summed
    from puriflow.store import MANIFEST

    counted, asked = Evaluations(track), Counter[str]()
    unknown: list[str] = []  # jobs of which something is not counted
    size, misfits = 0, 0
    planned = list(jobs(track, stores, results))
    if not planned:
        raise UserError(f"{file} reads images alone: what it computes is in its own job")
    typer.echo(f"{HEAD}  job (GiB; of {memory:g})")
    for job in planned:
        left = [p for p in job.places if not (p.folder / MANIFEST).is_file()]
        calls = summed(track, job.dataset, left, counted.asked)
        disk = summed(track, job.dataset, job.places, partial(stored, track))
        if calls is None or disk is None:
            unknown.append(f"{job.stage} {job.dataset} {job.parts}")
        asked[counted.network(job.places[0])] += calls or 0
        size += disk or 0
        numbers, fits, misfit = _memory(job, memory)
        misfits += misfit
        shown = "not counted" if calls is None else f"{calls:,}"
        work = f"{len(job.places):6} {len(left):6} {shown:>18}"
        typer.echo(f"{numbers}  {fits:>7} {work}  {job.stage} {job.dataset} {job.parts}")
    kept = [place for store in stores if (place := Place.of(results / store)) is not None]
    for place in (place for place in kept if place.stage == "images"):
        images, disk = images_of(track, place.names["dataset"]), stored(track, place)
        size += in_shards(images or 0, [place]) * (disk or 0)
    there = sum((results / store / MANIFEST).is_file() for store in stores)
    others = f", {len(audits)} audits" if (audits := what.files(track)) else ""
    typer.echo(f"\n{len(stores)} jobs for stores{others} and one for the result; {there} are there")
    typer.echo(f"disk: {size / GB:.3g} GB of images and answers in these, before compression")
    _say_evaluations(asked, counted.seconds(results))
    if unknown:
        typer.echo(f"not counted in full: {', '.join(unknown)}")
    if misfits:
        raise typer.Exit(1)


def _memory(job: "Job", memory: float) -> tuple[str, str, bool]:
    """Memory of a job, in GiB; how many images fit; and whether none does."""
    from puriflow.planning import GIB

    if job.needs is None:
        return f"{'-':>10} {'-':>9}", "unknown", False
    parameters, image = job.needs.parameters / GIB, job.needs.image / GIB
    count = min(job.most, job.needs.fits(int(memory * GIB)))
    return f"{parameters:10.3f} {image:9.3f}", str(count) if count else "none", not count


def _say_evaluations(asked: Mapping[str, int], seconds: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each network: evaluations, and hours by what was timed of it."""
    for network, count in asked.items():
        if not count:
            continue
        line = f"{network}: {count:,} evaluations left (a gradient through one counts as three)"
        timed = seconds.get(network, {})
        hours = (f"{count * s / 3600:,.3g} h on {device}" for device, s in timed.items())
        none = "no time is known: purify a few images first, by a smaller subset"
        typer.echo(f"{line}; {', '.join(hours) or none}")
