"""`puriflow zoo`: the official checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.errors import UserError
from puriflow.zoo.catalogue import cached, entries, entry, find, ready_file

app = typer.Typer(help="The official checkpoints: list, fetch, verify, path, convert.")
Name = Annotated[str, typer.Argument(help="entry of the zoo")]


@app.callback()
def places(
    config: Annotated[
        Path, typer.Option(help="track whose `zoo` section says where files are")
    ] = Path("config/config.yaml"),
) -> None:
    """The official checkpoints."""
    if config.is_file():  # outside a checkout there is none, and none is needed
        from puriflow.config import load_config

        load_config(config)  # which puts its places into use


@app.command("list")
def list_entries() -> None:
    """Show all entries: kind, size, licence, and whether they are here."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "file", "size", "licence", "here", box=None)
    for name, what in entries().items():
        size = "?" if what.size is None else f"{what.size / 1e6:,.0f} MB"
        if find(name, what.ready):
            here = "yes"
        elif find(name, what.file):
            here = "to convert"
        else:
            here = "no" if what.url else "no, by hand"
        kind = f"{what.family.removesuffix('s')} {what.part['kind']}"
        table.add_row(name, kind, what.file, size, what.licence, here)
    Console(width=None if Console().is_terminal else 200).print(table)


@app.command("fetch")
def fetch_entries(
    names: Annotated[list[str], typer.Argument(help="entries of the zoo")],
) -> None:
    """Download, check and convert entries; what is here is left as it is."""
    from puriflow.zoo.fetching import fetch

    _for_all(names, lambda name: str(fetch(name)))


@app.command("verify")
def verify_entries(
    names: Annotated[list[str] | None, typer.Argument(help="default: all that are here")] = None,
) -> None:
    """Check files against their published sizes and hashes, and those of the first download."""
    from puriflow.zoo.fetching import verify

    here = [name for name, what in entries().items() if find(name, what.file)]
    if not names and not here:
        typer.echo("no entry is here")
    _for_all(names or here, verify)


@app.command("path")
def path_of_entry(name: Name) -> None:
    """Print the file that is loaded for an entry, or where it would be."""
    typer.echo(ready_file(name))


@app.command("convert")
def convert_file(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help="default: the entry's own file")] = None,
    out: Annotated[Path | None, typer.Option(help="default: in the cache")] = None,
) -> None:
    """Convert an official pickle or checkpoint to safetensors, without running its code."""
    what = entry(name)
    if what.convert is None:
        raise UserError(f"{name} needs no conversion: {what.file} is loaded as it is")
    source = file or find(name, what.file)
    if source is None:
        raise UserError(f"{name} is not here; get it by: puriflow zoo fetch {name}")
    from puriflow.zoo.convert import convert
    from puriflow.zoo.download import locked

    target = out or cached(name, what.ready)
    with locked(target):
        convert(what.convert, source, target, what.family, what.part)
    typer.echo(target)


def _for_all(names, act) -> None:
    """Act on every entry; one that fails does not stop the others, but the command fails."""
    failed = []
    for name in names:
        try:
            typer.echo(f"{name}: {act(name)}")
        except UserError as problem:
            failed.append(problem)
    for problem in failed[:-1]:
        typer.echo(f"puriflow: error: {problem}", err=True)
    if failed:
        raise failed[-1]
