"""`puriflow benchmark`: how robust is a defence, by published attacks?"""

from pathlib import Path
from typing import Annotated

import typer

from puriflow.cli.options import AsJson, ConfigFile, Gpus, Threads, leased, track_of

BEHIND_RESULTS = False


def benchmark(
    file: Annotated[Path, typer.Argument(help="file that says what is judged, and how")],
    as_json: AsJson = False,
    threads: Threads = None,
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Judge a defence of yours, or of the track; the same command goes on after a kill."""
    from puriflow.benchmarking.asked import data_of, defence_of, load_asked

    asked = load_asked(file)
    track = track_of(config)
    with leased(gpus, track.compute, threads) as device:
        from puriflow.benchmarking.benchmark import benchmark as judge

        images, labels = data_of(asked, track)
        record = judge(
            defence_of(asked, track, device),
            images,
            labels,
            attack=asked.attack,
            eps=asked.eps,
            norm=asked.norm,
            n_draws=asked.n_draws,
            seed=asked.seed,
            batch=asked.batch,
            out=asked.out,
            config=track,
        )
    typer.echo(record.to_json().rstrip() if as_json else record)
    if not as_json:
        typer.echo(Path(asked.out) / "benchmark.json")
