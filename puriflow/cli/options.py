"""What several commands share: arguments, options, and how they get a track and a device."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    import torch

from puriflow.compute import THREADS
from puriflow.config import Config, default_track, load_config
from puriflow.config.track import Compute
from puriflow.elsewhere import check_local
from puriflow.errors import UserError
from puriflow.options import MOST_SEED

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
FIRST = {"--quiet", "--verbose"}  # options of `puriflow` itself

Source = Annotated[Path, typer.Argument(help="finished stage: its folder or its manifest.json")]
Out = Annotated[Path, typer.Option(help="folder of the new store")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="file of the track; default: config/config.yaml, else PuriFlow's own"
    ),
]
Results = Annotated[Path, typer.Option(help="folder of all stores and results")]
Seed = Annotated[
    int | None,
    typer.Option(help="seed of all random draws; default: the track's", min=0, max=MOST_SEED),
]
Threads = Annotated[
    int | None, typer.Option(help="number of CPU threads; default: torch's choice", min=1)
]
Gpus = Annotated[int, typer.Option(help="number of GPUs to lease, where there are any", min=0)]
Batch = Annotated[
    int | None,
    typer.Option(help="number of images between two saves; default: the track's, else by device"),
]
AtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch",
        help="number of images or tiles a GPU purifies at once; default: what fits",
        min=1,
    ),
]

AsJson = Annotated[
    bool, typer.Option("--json", help="print a JSON document, for other programs to read")
]


class Local(TyperCommand):
    """A command whose paths are of this machine, but for those that `located` reads."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for word in FIRST & {*args}:
            group = "" if ctx.parent.parent is None else f"{ctx.parent.info_name} "
            named = f"puriflow {word} {group}{ctx.info_name} ..."
            raise UserError(f"{word} goes before the command: {named}")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        for name, value in ctx.params.items():
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, PurePath):
                    check_local(one, name)
        return super().invoke(ctx)


def track_of(config: Path | None) -> Config:
    """The track that a command is given; else the default one, and a line if that is not here."""
    file = default_track() if config is None else config
    log.debug(f"track {file}")
    if config is None and file.is_absolute():
        log.info(f"no config/config.yaml is here, so the track is PuriFlow's own: {file}")
    return load_config(file)


def batch_of(track: Config, batch: int | None) -> int | None:
    """How many images are computed at once: as a command says, else as the track does."""
    return track.compute.batch if batch is None else batch


@contextmanager
def leased(gpus: int, how: Compute, threads: int | None = THREADS) -> Generator["torch.device"]:
    """The device to compute on, as a track says.

    A GPU is leased when torch has been imported, and not yet seen any.
    """
    from puriflow.compute import device, own_process
    from puriflow.lease import lease

    own_process()
    with (
        lease(gpus),
        device(gpus > 0, threads, deterministic=how.deterministic, compiled=how.compile) as found,
    ):
        log.debug(f"computes on {found}, {threads or 'a number that torch chooses'} threads")
        yield found
