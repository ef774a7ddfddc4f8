"""`puriflow status`: what runs where, how far it is, and what failed."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puriflow.cli.options import Results
from puriflow.errors import UserError, printable

if TYPE_CHECKING:
    from puriflow.running import Running

BEHIND_RESULTS = False
SHOWN = ("running", "silent", "failed")


def status(
    logs: Annotated[Path, typer.Option(help="folder of logs")] = Path("logs"),
    results: Results = Path("results"),
) -> None:
    """Say what jobs run and where, how far they are, and what failed; exit status 1 if one did.

    It reads logs and stores alone, so it says the same of every executor. A job is silent that has
    written nothing for ten minutes: it was killed, or is at a long step.
    """
    from puriflow.running import jobs_of

    if not logs.is_dir():
        raise UserError(f"{logs} is not there: run this where snakemake runs, or say --logs")
    jobs = list(jobs_of(logs, results))
    for state in SHOWN:
        for job in (job for job in jobs if job.state == state):
            typer.echo(f"{state:8} {_line(job)}")
    counts = Counter(job.state for job in jobs)
    typer.echo(", ".join(f"{counts[state]} {state}" for state in ("done", *SHOWN)))
    if counts["failed"]:
        raise typer.Exit(1)


def _line(job: "Running") -> str:
    """A job in a line: its name, how far it is, where, and what it said last."""
    said = [job.name]
    if job.total:
        said.append(f"{job.done}/{job.total} {job.unit}")
    if job.where:
        said.append(f"on {job.where}")
    if job.state == "failed":
        return "  ".join([*said, printable(job.last)])
    if job.left is not None:
        said.append(f"{job.rate:.3g} {job.unit}/s, {_time(job.left)} left")
    quiet = f"wrote {_time(job.quiet)} ago"
    return "  ".join([*said, quiet if job.total else f"{quiet}: {printable(job.last)}"])


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
