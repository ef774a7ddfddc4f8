"""RobustBench's adversarially trained classifiers, by their names there (paper, Tables 2, 3 and 5).

Of each of its data sets and threat models. The architecture and the normalisation are RobustBench's
own, whose constants are set where a file lacks them. The file is read here, safely and completely:
RobustBench's loader takes a file that fits nothing, where it expects an ImageNet model. Its
ensembles lie in several files, and are left to it.
Needs the extra `puriflow[robustbench]`.
"""

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.errors import UserError, unknown
from puriflow.fitting import check_side
from puriflow.kernels import layout
from puriflow.options import Named, Side, Text
from puriflow.zoo.weights import load_state, read_state

CONSTANTS = {"mu", "sigma", "mean", "std"}  # buffers of a normalisation, which not every file has
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


class Sized(nn.Module):
    """A classifier that normalises inside, and insists on the image side that it was made for."""

    def __init__(self, network: nn.Module, size: int, dataset: Named | None):
        super().__init__()
        self.network, self.size, self.dataset = network, size, dataset
        # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
        self.eval().requires_grad_(False).to(memory_format=layout())

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] to logits (N, classes)."""
        check_side("this classifier", images, self.size)
        return self.network(images)


def build(
    *,
    weights: Text | None,
    model: Text,
    dataset: Literal["cifar10", "cifar100", "imagenet"],
    size: Side | None = None,
    threat_model: Literal["Linf", "L2", "corruptions"] = "Linf",
) -> Sized:
    """A RobustBench model with the checkpoint of `weights` (None: random, for tests).

    `size` is the one that it is evaluated at there, if it is None.
    """
    try:
        name_autoattack()
        from robustbench.model_zoo.models import model_dicts
        from robustbench.utils import BenchmarkDataset, ThreatModel
    except ImportError as error:
        raise UserError(
            f"{model} needs RobustBench: pip install 'puriflow[robustbench]' ({error})"
        ) from None
    known = model_dicts[BenchmarkDataset(dataset)].get(ThreatModel(threat_model), {})
    if model not in known:
        raise unknown(f"RobustBench model of {dataset} {threat_model}", model, known)
    entry = known[model]
    network = _network(model, entry, dataset, threat_model)
    if weights is not None:
        if isinstance(entry.get("gdrive_id"), list):
            raise UserError(f"{model} is an ensemble of several files, but weights are one")
        # ImageNet models are the network behind a layer that normalises, whose constants are set.
        inner: nn.Module = getattr(network, "model", network)  # pyrefly: ignore[bad-assignment]
        _load(inner, Path(weights), model)
    own = _size(entry.get("preprocessing"), dataset)
    named: Named | None = None if dataset == "cifar100" else dataset
    return Sized(network, own if size is None else size, named)


def _network(model: str, entry: Mapping[str, Any], dataset: str, threat_model: str) -> nn.Module:
    """The architecture, which is timm's by a longer name for some; without weights."""
    import timm

    name = f"{model}_{dataset}_{threat_model}".lower().replace("-", "_")
    try:
        if timm.is_model(name):
            return timm.create_model(name, num_classes=CLASSES[dataset])
        return entry["model"]()
    except Exception as error:  # some build a part of themselves on a GPU
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"RobustBench cannot build {model} here: {said}") from error


def _size(preprocessing: object, dataset: str) -> int:
    """The side of the images that a model is evaluated on, of ImageNet by its preprocessing."""
    if dataset != "imagenet":
        return 32
    found = re.search(r"(\d+)$", preprocessing) if isinstance(preprocessing, str) else None
    return int(found[1]) if found else 224


def _load(network: nn.Module, file: Path, model: str) -> None:
    """Load all of a network from a RobustBench checkpoint, which may hold more of its training."""
    state: dict[str, Tensor] = {}
    where = f"weights file {file} does not fit {model}"
    for given, value in read_state(file).items():
        key = given.replace("module.", "").replace("model.", "")
        if key in state:
            raise UserError(f"{where}: {key} is in it twice, under several prefixes")
        state[key] = value
    wanted = network.state_dict()
    buffers = {name for name, _ in network.named_buffers() if name in CONSTANTS}
    state = {**{name: wanted[name] for name in buffers & wanted.keys()}, **state}
    for key, value in wanted.items():
        if key not in state or state[key].shape != value.shape:
            what = "is missing" if key not in state else f"is {tuple(state[key].shape)}"
            raise UserError(f"{where}: {key} {what}")
    load_state(network, {key: state[key] for key in wanted}, where)


def name_autoattack() -> None:
    """PyPI's RobustBench brings `pyautoattack`, but imports it by its GitHub name `autoattack`."""
    if importlib.util.find_spec("autoattack") is None:
        import pyautoattack
        import pyautoattack.state

        sys.modules["autoattack"] = pyautoattack
        sys.modules["autoattack.state"] = pyautoattack.state
