"""`puriflow inspect`: what a store is, verified, in a few lines of text and maybe a picture."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from puriflow.cli.options import AsJson
from puriflow.elsewhere import located
from puriflow.errors import UserError, on_disk
from puriflow.store import Stage, open_stage
from puriflow.store.manifest import files_of

BEHIND_RESULTS = False
log = logging.getLogger(__name__)


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="finished stage: its folder or its manifest.json, here or at an address (s3://...)",
            parser=located,
            metavar="SOURCE",
        ),
    ],
    sheet: Annotated[
        Path | None, typer.Option(help="PNG file that shows images of the store")
    ] = None,
    count: Annotated[int, typer.Option(help="number of images drawn", min=1)] = 40,
    as_json: AsJson = False,
) -> None:
    """Say what a store is, verify every file of it, and maybe draw its images."""
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet}: give a file that ends in .png")
    stage = open_stage(path)
    typer.echo(json.dumps(found(stage), indent=1) if as_json else describe(stage))
    if sheet is not None:
        from puriflow.plots.sheets import grid

        if "images" not in stage.manifest["arrays"]:
            raise UserError(f"store {path} has no images to draw, only {stage.manifest['store']}")
        grid(stage.read("images", 0, count), sheet)
        log.info(f"sheet {sheet}")


def describe(stage: Stage) -> str:
    """Stage, arrays, parameters and provenance of a verified store."""
    m = stage.manifest
    lines = [f"stage    {m['stage']}, {m['n']} samples, every file as its manifest says"]
    for name, array in m["arrays"].items():
        lines.append(f"array    {name} {array['dtype']} {tuple(array['shape'])}")
    lines.append(f"store    {stage.store} ({size_of(stage) / 2**20:.1f} MiB)")
    lines.append(f"made by  {json.dumps(m['parameters'], sort_keys=True)}")
    lines += [f"weights  {path} sha256 {sha[:16]}" for path, sha in m["weights"].items()]
    lines += [f"from     {path} (manifest {sha[:16]})" for path, sha in m["upstream"].items()]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines.append(f"code     {m['code'][:16]}, seed {m['seed']}, {versions}")
    if machine := m.get("machine"):
        lines.append(f"machine  {', '.join(f'{k} {v}' for k, v in machine.items())}")
    if (seconds := stage.seconds_per_image) is not None:
        lines.append(f"time     {seconds:.4g} s an image")
    lines.append(f'open     xarray.open_zarr("{stage.store}", consolidated=False)')
    return "\n".join(lines)


def found(stage: Stage) -> dict[str, Any]:
    """What a verified store says of itself: its manifest, its size, and what an image took."""
    files = {name: sha for name, sha in stage.manifest.items() if name != "files"}
    more = {"folder": str(stage.folder), "store": str(stage.store), "bytes": size_of(stage)}
    return {**files, **more, "seconds_per_image": stage.seconds_per_image}


def size_of(stage: Stage) -> int:
    """Bytes of the files of a store."""
    with on_disk(stage.folder):
        return sum(file.stat().st_size for file in files_of(stage.store).values())
