"""`puriflow purify`: restoring and purifying image files."""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import AtOnce, ConfigFile, Gpus, Seed, Threads, batch_of, leased, track_of
from puriflow.registry import NONE

BEHIND_RESULTS = False


def purify(
    inputs: Annotated[
        list[Path], typer.Argument(help="pictures, npy, npz, Zarr stores, or folders of these")
    ],
    out: Annotated[Path, typer.Option(help="folder of the purified images")] = Path("purified"),
    purifier: Annotated[str, typer.Option(help="name of the purifier")] = NONE,
    restorer: Annotated[
        str, typer.Option(help="name of the restorer; it goes before a purifier")
    ] = NONE,
    compare: Annotated[
        bool, typer.Option("--compare", help="draw compare.png: images before and after")
    ] = False,
    classifier: Annotated[
        str, typer.Option(help="name of the classifier whose predictions compare.png shows")
    ] = NONE,
    seed: Seed = None,
    batch: AtOnce = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Purify your own images, which keep their names, formats and sizes.

    Pictures are PNG, JPEG, WebP, BMP, TIFF and GIF, and come out as PNG. Nothing in the folder of
    the results is overwritten, and the same command goes on where it was stopped: within a large
    picture, at the tile.
    """
    from puriflow.image_files.command import purify_files

    track = track_of(config)
    purify_files(
        inputs,
        out,
        track,
        {"restorer": restorer, "purifier": purifier, "classifier": classifier},
        compare=compare,
        seed=track.seed if seed is None else seed,
        batch=batch_of(track, batch),
        device=leased(gpus, track.compute, threads),
    )
