"""`puriflow archive`: a finished result as an RO-Crate, with metadata for Zenodo."""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Results
from puriflow.config import default_track

BEHIND_RESULTS = False


def archive(
    file: Annotated[Path, typer.Argument(help="config/tables/NAME.yaml and the like")],
    out: Annotated[Path, typer.Option(help="new folder of the crate")],
    creator: Annotated[
        list[str],
        typer.Option(help="name of who made it, maybe with an ORCID behind it; repeat it"),
    ],
    licence: Annotated[str, typer.Option(help="of the result, as SPDX calls it: CC-BY-4.0")],
    results: Results = Path("results"),
    config: ConfigFile = None,
) -> None:
    """Archive a finished result: its files, and what it was made from, as an RO-Crate."""
    from puriflow.sharing.archive import archive as written

    track = default_track() if config is None else config
    typer.echo(written(file, track, results, out, creators=creator, licence=licence))
