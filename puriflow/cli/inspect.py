"""`puriflow inspect`: what a store is, verified, in a few lines of text and maybe a picture."""

import json
from pathlib import Path
from typing import Annotated

import typer

from puriflow.elsewhere import located
from puriflow.errors import UserError, on_disk
from puriflow.store import Stage, open_stage
from puriflow.store.manifest import files_of

BEHIND_RESULTS = False


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
) -> None:
    """Say what a store is, verify every file of it, and maybe draw its images."""
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet}: give a file that ends in .png")
    stage = open_stage(path)
    typer.echo(describe(stage))
    if sheet is not None:
        from puriflow.plots.sheets import grid

        if "images" not in stage.manifest["arrays"]:
            raise UserError(f"store {path} has no images to draw, only {stage.manifest['store']}")
        grid(stage.read("images", 0, count), sheet)
        typer.echo(f"sheet    {sheet}")


def describe(stage: Stage) -> str:
    """Stage, arrays, parameters and provenance of a verified store."""
    m = stage.manifest
    lines = [f"stage    {m['stage']}, {m['n']} samples, every file as its manifest says"]
    for name, array in m["arrays"].items():
        lines.append(f"array    {name} {array['dtype']} {tuple(array['shape'])}")
    with on_disk(stage.folder):
        size = sum(f.stat().st_size for f in files_of(stage.store).values())
    lines.append(f"store    {stage.store} ({size / 2**20:.1f} MiB)")
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
