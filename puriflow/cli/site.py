"""`puriflow site`: the leaderboard as one page, from results here and records of others."""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, track_of
from puriflow.errors import UserError

BEHIND_RESULTS = False


def site(
    out: Annotated[Path, typer.Argument(help="folder of the page, new or empty")],
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="records of others: benchmark.json, or `puriflow results --json`'s"),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="folder of all stores and results; default: results, if it is here"),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write the leaderboard as a page that works from a file: index.html, and images beside it.

    Rows are those of tables and sweeps that are built, records that were taken in by `puriflow
    results --add`, and the records that are named.
    """
    from puriflow.results import results_folder
    from puriflow.site import write_site
    from puriflow.site.ours import say_left_out

    if results is not None and not results.is_dir():
        raise UserError(f"results {results} are no folder")
    here = Path("results") if results is None else results
    if not here.is_dir() and not records:
        raise UserError(
            "no results are here: build a table (snakemake results/table7.csv) first, "
            "give --results FOLDER, or name files of records"
        )
    track = track_of(config) if here.is_dir() else None
    given = {"results": here, "config": results_folder(), "configfile": config}
    found = write_site(out, records or [], track=track, **given)
    say_left_out(found)
    typer.echo(f"{out / 'index.html'}: {len(found.entries)} rows of tables and sweeps")
