"""`puriflow doctor`: is this machine fit for a track."""

from typing import Annotated

import typer

from puriflow.cli.options import ConfigFile, Gpus, leased, track_of
from puriflow.errors import UserError

BEHIND_RESULTS = False


def doctor(
    purifier: Annotated[str, typer.Option(help="name of the purifier")] = "vpsde-t90",
    restorer: Annotated[str, typer.Option(help="name of the restorer")] = "esrgan-x2",
    classifier: Annotated[str, typer.Option(help="name of the classifier")] = "resnet50",
    dataset: Annotated[str, typer.Option(help="name of the data set, for its size")] = "imagenet",
    gpus: Gpus = 1,
    config: ConfigFile = None,
) -> None:
    """Look at this machine's device, what fits, precisions and times; exit status 1 if it is wrong.

    Without a GPU the CPU is looked at.
    """
    track = track_of(config)
    roles = {"restorer": restorer, "purifier": purifier, "classifier": classifier}
    parts, images = track.parts(roles), track.part("dataset", dataset)
    if "purifier" not in parts or parts["purifier"].network is None:
        raise UserError(f"purifier {purifier} asks no network, and there is nothing to look at")
    wrong = 0
    with leased(gpus, track.compute) as device:
        from puriflow.doctor import examine
        from puriflow.planning import size_of

        size = size_of(images)
        if size is None:
            raise UserError(f"dataset {dataset} does not say how large its images are: give a crop")
        asked = examine(parts["purifier"], parts, size[0], device, wanted=gpus > 0)
        for found in asked:
            typer.echo(f"{'WRONG' if found.wrong else 'ok':5}  {found.what:13} {found.said}")
            wrong += found.wrong
    if wrong:
        raise typer.Exit(1)
