"""RobustBench's adversarially trained classifiers, by their names there (paper, Tables 2, 3 and 5).

The architecture, the reading of the checkpoint and the normalisation are RobustBench's own; the
file is ours to give, so that nothing is downloaded behind the user's back. Needs the extra
`puriflow[robustbench]`.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.errors import Problem, unknown
from puriflow.zoo.catalogue import resolve
from puriflow.zoo.weights import read_checkpoint


class Sized(nn.Module):
    """A classifier of [0, 1] images that insists on the size it was made for.

    Args:
        network: from images to logits, with its normalisation inside.
        size: side of the square images.
    """

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network = network
        self.size = size
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] to logits (N, classes).

        Raises:
            Problem: the images have another size.
        """
        if images.shape[-2:] != (self.size, self.size):
            raise Problem(
                f"this classifier takes {self.size}x{self.size} images, but these are "
                f"{images.shape[-2]}x{images.shape[-1]}; choose a data set with crop {self.size}"
            )
        return self.network(images)


def build(
    *,
    weights: str | None,
    model: str,
    dataset: Literal["cifar10", "imagenet"],
    size: int,
    threat_model: Literal["Linf", "L2"] = "Linf",
) -> Sized:
    """A RobustBench model with the checkpoint of `weights` (None: random, for tests)."""
    try:
        _name_autoattack()
        from robustbench.model_zoo.models import model_dicts
        from robustbench.utils import BenchmarkDataset, ThreatModel, load_model
    except ImportError as error:
        raise Problem(
            f"{model} needs RobustBench: pip install 'puriflow[robustbench]' ({error})"
        ) from None
    known = model_dicts[BenchmarkDataset(dataset)][ThreatModel(threat_model)]
    if model not in known:
        raise unknown(f"RobustBench model of {dataset} {threat_model}", model, known)
    if weights is None:
        return Sized(known[model]["model"](), size)
    file = resolve(weights)
    if not file.is_file():
        raise Problem(f"weights file {file} does not exist")
    read_checkpoint(file)  # refuses what is not tensors before RobustBench reads it
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / dataset / threat_model
        place.mkdir(parents=True)
        (place / f"{model}.pt").symlink_to(file.absolute())
        try:
            network = load_model(model, folder, dataset, threat_model)
        except (RuntimeError, KeyError) as error:
            first = " ".join(str(error).split())[:300]
            raise Problem(f"weights file {file} does not fit {model}: {first}") from None
    return Sized(network, size)


def _name_autoattack() -> None:
    """PyPI's RobustBench brings `pyautoattack`, but imports it by its GitHub name `autoattack`."""
    if importlib.util.find_spec("autoattack") is None:
        import pyautoattack
        import pyautoattack.state

        sys.modules["autoattack"] = pyautoattack
        sys.modules["autoattack.state"] = pyautoattack.state
