"""`puriflow zoo`: the official checkpoints."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from puriflow.checksums import file_hash, forget
from puriflow.cli.options import AsJson, ConfigFile
from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.registry import family_named
from puriflow.zoo.catalogue import Zoo

BEHIND_RESULTS = False
log = logging.getLogger(__name__)

app = typer.Typer(help="The official checkpoints: list, fetch, verify, path, convert.")
Name = Annotated[str, typer.Argument(help="name of an entry")]


@app.callback()
def places(context: typer.Context, config: ConfigFile = None) -> None:
    """The official checkpoints, in the places that the track's `zoo` section names."""
    context.obj = load_config(config).zoo


@app.command("list")
def list_entries(context: typer.Context, as_json: AsJson = False) -> None:
    """Show all entries: kind, size, licence, and whether they are here, and right."""
    from puriflow.zoo.fetching import state

    places: Zoo = context.obj
    entries: list[dict[str, Any]] = []
    refused: list[Exception] = []
    for name, what in places.known().items():
        try:
            here = state(places, name)
        except (UserError, OSError) as problem:
            here = "refused"
            refused.append(problem)
        role, kind = family_named(what.family).roles[0], what.part["kind"]
        entry = {"name": name, "role": role, "kind": kind, "file": what.file, "bytes": what.size}
        entries.append({**entry, "licence": what.licence, "here": here})
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
    else:
        _draw(entries)
    _raise(refused)


def _draw(entries: list[dict[str, Any]]) -> None:
    """Print entries as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "kind", "file", "size", "licence", "here", box=None)
    for e in entries:
        size = "?" if e["bytes"] is None else f"{e['bytes'] / 1e6:,.0f} MB"
        row = (e["name"], f"{e['role']} {e['kind']}", e["file"], size, e["licence"], e["here"])
        table.add_row(*map(Text, row))  # as texts: brackets in an entry are no markup
    Console(width=None if Console().is_terminal else 200).print(table)


@app.command("fetch")
def fetch_entries(
    context: typer.Context, names: Annotated[list[str], typer.Argument(help="names of entries")]
) -> None:
    """Download, check and convert entries; what is here is left as it is."""
    from puriflow.zoo.fetching import fetch

    def fetched(name: str) -> str:
        file = fetch(context.obj, name)
        return f"{file} (sha256 {file_hash(file)})"

    _for_all(names, fetched)


@app.command("verify")
def verify_entries(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="names of entries; default: all that are here")
    ] = None,
) -> None:
    """Read files anew, and check them by published sizes and hashes, recorded ones, or networks."""
    from puriflow.zoo.fetching import verify

    places: Zoo = context.obj
    here = [
        name
        for name, what in places.known().items()
        if places.find(name, what.file) or places.find(name, what.ready)
    ]
    if not names and not here:
        log.info("no entry is here")

    def verified(name: str) -> str:
        weights = places.weights(name)
        forget([weights.file, weights.official])
        return verify(places, name)

    _for_all(names or here, verified)


@app.command("path")
def path_of_entry(context: typer.Context, name: Name) -> None:
    """Print the file that is loaded for an entry, or where it would be."""
    typer.echo(context.obj.ready_file(name))


@app.command("convert")
def convert_file(
    context: typer.Context,
    name: Name,
    file: Annotated[
        Path | None, typer.Argument(help="official file; default: the entry's own")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; default: in the cache")] = None,
) -> None:
    """Convert an official pickle or checkpoint to safetensors, without running its code."""
    places: Zoo = context.obj
    what = places.entry(name)
    if what.convert is None:
        raise UserError(f"{name} needs no conversion: {what.file} is loaded as it is")
    source = file or places.find(name, what.file)
    if source is None:
        raise UserError(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    from puriflow.zoo.convert import convert
    from puriflow.zoo.download import locked
    from puriflow.zoo.fetching import check_official

    check_official(what, source)
    target = out or places.cached(name, what.ready)
    with locked(target):
        convert(what.convert, source, target, what.family, what.part)
    typer.echo(target)


def _for_all(names: list[str], act: Callable[[str], str]) -> None:
    """Act on every entry; one that fails does not stop the others, but the command fails."""
    failed: list[Exception] = []
    for name in names:
        try:
            typer.echo(f"{name}: {act(name)}")
        except (UserError, OSError) as problem:
            failed.append(problem)
    _raise(failed)


def _raise(failed: list[Exception]) -> None:
    """Say what failed, each in a line of its own."""
    for problem in failed[:-1]:
        log.error(problem)
    if failed:
        raise failed[-1]
