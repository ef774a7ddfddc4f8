"""`puriflow demo`: try an attack and a purifier on one image, on a page of this machine."""

from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Gpus, Threads, leased, track_of

BEHIND_RESULTS = False


def demo(
    port: Annotated[
        int | None,
        typer.Option(help="default: the first free one from 7860", min=1, max=65535),
    ] = None,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Serve a page to this machine alone: an image, an attack, a restorer, a purifier.

    It is bound to localhost, writes into a folder of its own that is gone at the end, and computes
    one request at a time, each of one image and an attack that begins no step after a minute.
    """
    from puriflow.demo.page import serve

    track = track_of(config)
    with leased(gpus, track.compute, threads) as device:
        from puriflow.demo.bench import Bench

        serve(Bench(track, device), port)
