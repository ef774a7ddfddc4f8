"""`puriflow result`: building tables, figures, sweeps, times, curves, verdicts and summaries."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Gpus, Results, Threads, leased, track_of
from puriflow.elsewhere import located
from puriflow.errors import UserError

BEHIND_RESULTS = False
CLAIMS = "claims.yaml"


def result(
    file: Annotated[
        Path, typer.Argument(help="config/tables/NAME.yaml and the like, or config/claims.yaml")
    ],
    about: Annotated[
        str | None, typer.Option(help="of claims.yaml: the result whose claims are judged")
    ] = None,
    page: Annotated[
        str | None, typer.Option(help="of claims.yaml: the result whose page is written")
    ] = None,
    results: Results = Path("results"),
    stores: Annotated[
        Path | None,
        typer.Option(
            help="folder or address (s3://...) of the stores, if they are not with the results",
            parser=located,
            metavar="FOLDER",
        ),
    ] = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Build a result from finished stores, and say which files were written.

    With config/claims.yaml: the verdicts on one result's claims (--about), its page (--page), or
    the summary of all of the paper's results.
    """
    if file.name == CLAIMS and stores is not None:
        raise UserError(f"--stores is for a table and the like: {CLAIMS} reads results")
    if file.name == CLAIMS:
        written = _of_claims(file, about, page, results, config)
    elif about is not None or page is not None:
        raise UserError(f"--about and --page are for {CLAIMS}, and {file} is another file")
    else:
        from puriflow.results import load_result

        what, track = load_result(file), track_of(config)
        lent = leased(gpus, track.compute, threads) if what.computes else nullcontext()
        with lent as device:
            written = what.build(track, file.stem, results, device, stores)
    for path in written:
        typer.echo(path)


def _of_claims(
    file: Path, about: str | None, page: str | None, results: Path, config: Path | None
) -> list[Path]:
    from puriflow.results.claims import judge_result
    from puriflow.results.summary import write_page, write_summary

    if about is not None and page is not None:
        raise UserError("--about and --page are two commands: give one of them")
    if about is not None:
        return judge_result(file, about, track_of(config), results)
    return write_summary(file, results) if page is None else write_page(file, page, results)
