"""`puriflow verify` and `puriflow repair`: whether results are whole, and making them so."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puriflow.cli.options import AsJson, ConfigFile
from puriflow.config import Config, default_track, load_config
from puriflow.elsewhere import located
from puriflow.errors import UserError

if TYPE_CHECKING:
    from puriflow.registry import Parts, Weights
    from puriflow.upkeep import Survey

BEHIND_RESULTS = False
RESULTS = Path("results")
# What is written of a result that claims are about, as the workflow's rules name it.
JUDGED = ("claims/{}.csv", "pages/{}.html", "pages/{}.rst", "summary.md", "summary.html")


def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            help="folder of results, or a store, here or at an address (s3://...)",
            parser=located,
            metavar="FOLDER",
        ),
    ] = RESULTS,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Verify all results: stores, the chains between them, weights, work under way.

    A line for all that is wrong, and exit status 1 if anything is.
    """
    from puriflow.upkeep import verified

    found = verified(folder, *_known(config))
    wrong = [*found.broken.values(), *found.changed.values()]
    counts = {"stores": found.stores, "under way": found.work, "weights": found.weights}
    seen = {name: len(items) for name, items in counts.items()}
    if as_json:
        named = {"broken": found.broken, "changed": found.changed}
        said = {kind: {str(path): why for path, why in of.items()} for kind, of in named.items()}
        typer.echo(json.dumps({"folder": str(folder), **seen, **said}, indent=1))
    else:
        for line in wrong:
            typer.echo(line)
        listed = ", ".join(f"{count} {name}" for name, count in seen.items())
        typer.echo(f"{folder}: {listed}: {len(wrong) or 'nothing'} wrong")
    if wrong:
        raise typer.Exit(1)


def repair(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="a store or work under way, which is removed though it be whole, or a folder of "
            "results, of which only what is broken is; default: results"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="only say what would be removed")] = False,
    config: ConfigFile = None,
) -> None:
    """Remove what is broken, and what was made from it: the next run makes it again.

    That are stores and work under way, and the files of the track's results that read them. Exit
    status 1 if something is left that is wrong.
    """
    from puriflow.upkeep import remove

    left, done = [], "would be removed" if dry_run else "removed"
    for path in paths or [RESULTS]:
        found, gone = _planned(path, config)
        left += found.changed.values()
        for one, reason in {**_made_of(found.root, gone, config), **gone}.items():
            try:
                if not dry_run:
                    remove(one, found.root)
                typer.echo(f"{done} {one}: {reason}")
            except UserError as problem:
                left.append(str(problem))
    for line in left:
        typer.echo(f"left {line}")
    if left:
        raise typer.Exit(1)


def _planned(path: Path, config: Path | None) -> tuple["Survey", dict[Path, str]]:
    """What is there, and what has to go."""
    from puriflow.lineage import Place
    from puriflow.store import MANIFEST
    from puriflow.upkeep import Survey, is_store, is_work, survey, verified, what_goes

    path = path.parent if path.name == MANIFEST else path
    if path.is_symlink():
        raise UserError(f"{path} is a link: name what it leads to")
    if is_work(path):
        return Survey(path.parent), {path: "it is asked for"}
    if is_store(path):
        place = Place.of(path)
        found = survey(path.parent if place is None else place.results)
        found.broken.clear()  # nothing but what is asked for
        return found, what_goes(found, [path if place is None else place.folder])
    found = verified(path, *_known(config))
    return found, what_goes(found)


def _made_of(root: Path, gone: Collection[Path], config: Path | None) -> dict[Path, str]:
    """The files of results that read stores which go, and why these go too.

    Nobody shall read a table whose stores are gone.
    """
    if (track := _track(config)) is None:
        return {}
    from puriflow.results import find, load_result, names, results_folder
    from puriflow.results.base import Judged

    files, listed = {}, results_folder(config and config.parent)
    folders = {path.relative_to(root).as_posix() for path in gone}
    for name in (name for of_folder in names(listed).values() for name in of_folder):
        try:
            result = load_result(find(name, listed))
            read = next((folder for folder in result.stores(track) if folder in folders), None)
        except UserError:
            continue  # this track cannot build it, whatever is there
        if read is not None:
            written = [*result.outputs(name).values()]
            if isinstance(result, Judged):
                written += [path.format(name) for path in JUDGED]
            files |= dict.fromkeys((root / path for path in written), f"it reads {root / read}")
    return {file: reason for file, reason in files.items() if file.is_file()}


def _track(config: Path | None) -> Config | None:
    """The track that is given, or is here; PuriFlow's own may not be that of these results."""
    file = default_track() if config is None else config
    return None if config is None and file.is_absolute() else load_config(file)


def _known(config: Path | None) -> tuple[list["Weights"], "Parts"]:
    """The files that the parts of a track load, and its data sets; without a track none."""
    if (track := _track(config)) is None:
        return [], {}
    served = (name for name in track.datasets if track.why_unavailable("dataset", name) is None)
    return track.weights(), {name: track.part("dataset", name) for name in served}
