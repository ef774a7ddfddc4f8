"""`puriflow results` and `puriflow diff`: results for others, and how two of them differ."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Results, track_of
from puriflow.errors import UserError

BEHIND_RESULTS = False
log = logging.getLogger(__name__)


def results(
    as_json: Annotated[
        Path | None,
        typer.Option("--json", help="file of the leaderboard: of tables, sweeps and others'"),
    ] = None,
    latex: Annotated[
        str | None, typer.Option(help="name of a table that is printed as LaTeX (booktabs)")
    ] = None,
    add: Annotated[
        Path | None, typer.Option(help="record of somebody else's (benchmark.json) to take in")
    ] = None,
    folder: Results = Path("results"),
    config: ConfigFile = None,
) -> None:
    """Export results, as JSON with what made them or as LaTeX, and take in those of others."""
    if as_json is None and latex is None and add is None:
        raise UserError("nothing to do: give --json FILE, --latex TABLE or --add FILE")
    if add is not None:
        from puriflow.sharing.leaderboard import add as take_in

        typer.echo(take_in(add, track_of(config), folder))
    if latex is not None:
        from puriflow.sharing.latex import latex as printed

        typer.echo(printed(latex, folder), nl=False)
    if as_json is not None:
        from puriflow.atomic import write_text
        from puriflow.results import results_folder
        from puriflow.sharing.leaderboard import board, written

        records, left_out = board(track_of(config), folder, results_folder())
        for name, why in left_out.items():
            log.warning(f"{name} is left out: {why}")
        write_text(as_json, written(records))
        typer.echo(f"{as_json}: {len(records)} records")


def diff(
    a: Annotated[Path, typer.Argument(help="a store, a table (.csv) or a record of a benchmark")],
    b: Annotated[Path, typer.Argument(help="another of the same kind")],
) -> None:
    """Say how two of a kind differ, and why; exit status 1 if they do, as of diff."""
    from puriflow.sharing.difference import differences

    lines = differences(a, b)
    for line in lines:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)
