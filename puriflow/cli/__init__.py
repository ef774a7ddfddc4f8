"""The `puriflow` command.

People use `init`, `purify`, `inspect`, `benchmark`, `audit`, `plan`, `status`, `doctor`, `train`,
`result`, `results`, `site`, `demo`, `archive`, `diff`, `verify`, `repair` and `zoo`; the rules of
the workflow and experts use `stage` as well. A part is given by its name in a track (`--config`).
Nothing heavy is imported before a command needs it.
"""

import logging
import sys
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from puriflow.cli.archive import archive
from puriflow.cli.audit import audit
from puriflow.cli.benchmark import benchmark
from puriflow.cli.demo import demo
from puriflow.cli.doctor import doctor
from puriflow.cli.init import init
from puriflow.cli.inspect import inspect
from puriflow.cli.options import Local
from puriflow.cli.plan import plan
from puriflow.cli.purify import purify
from puriflow.cli.result import result
from puriflow.cli.sharing import diff, results
from puriflow.cli.site import site
from puriflow.cli.stage import app as stage
from puriflow.cli.status import status
from puriflow.cli.train import train
from puriflow.cli.upkeep import repair, verify
from puriflow.cli.zoo import app as zoo
from puriflow.errors import UserError, printable
from puriflow.messages import LOGGER
from puriflow.renames import COMMANDS_RENAMED

BEHIND_RESULTS = False


class Commands(TyperGroup):
    """Answers a command that has another name now with that name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and args[0] in COMMANDS_RENAMED:
            new = COMMANDS_RENAMED[args[0]]
            raise UserError(f"`puriflow {args[0]}` is now `puriflow {new}`")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    *(init, purify, inspect, benchmark, audit, plan, status, doctor, train),
    *(result, results, site, demo, archive, diff, verify, repair),
):
    app.command()(command)
app.add_typer(zoo, name="zoo")
app.add_typer(stage, name="stage")
for info in (c for group in (app, zoo, stage) for c in group.registered_commands):
    info.cls = Local


def _version(wanted: bool) -> None:
    if wanted:
        from puriflow import __version__

        typer.echo(f"puriflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="say only what is wrong, and show no progress")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="say also by what, and where an error was found")
    ] = False,
) -> None:
    """Adversarial purification via super-resolution and diffusion.

    Results go to standard output, all else that is said to standard error.
    """
    if quiet and verbose:
        raise UserError("--quiet and --verbose say the opposite: give one of them")
    LOGGER.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def main() -> None:
    """Run the command line; an error of the user or of the disk is one line and exit status 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except UserError as error:
        _refuse(str(error))
    except OSError as error:  # a full disk, a quota, a folder that is not mine
        where = f"{error.filename}: " if error.filename is not None else ""
        _refuse(f"{where}{error.strerror or error}")


def _refuse(message: str) -> NoReturn:
    LOGGER.debug("the error is of here", exc_info=True)
    LOGGER.error(printable(message))
    sys.exit(2)
