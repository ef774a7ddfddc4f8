"""RobustBench's adversarially trained classifiers, by their names there (paper, Tables 2, 3 and 5).

The architecture and the normalisation are RobustBench's own. The file is read here, safely and
completely: RobustBench's loader takes a file that fits nothing, where it expects an ImageNet model.
Needs the extra `puriflow[robustbench]`.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.errors import UserError, unknown
from puriflow.fitting import check_side
from puriflow.options import Named, Norm, Side, Text
from puriflow.zoo.weights import load_state, read_state


class Sized(nn.Module):
    """A classifier that normalises inside, and insists on the image side that it was made for."""

    def __init__(self, network: nn.Module, size: int, dataset: Named):
        super().__init__()
        self.network, self.size, self.dataset = network, size, dataset
        # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] to logits (N, classes)."""
        check_side("this classifier", images, self.size)
        return self.network(images)


def build(
    *,
    weights: Text | None,
    model: Text,
    dataset: Named,
    size: Side,
    threat_model: Norm = "Linf",
) -> Sized:
    """A RobustBench model with the checkpoint of `weights` (None: random, for tests)."""
    try:
        name_autoattack()
        from robustbench.model_zoo.models import model_dicts
        from robustbench.utils import BenchmarkDataset, ThreatModel
    except ImportError as error:
        raise UserError(
            f"{model} needs RobustBench: pip install -e '.[robustbench]' ({error})"
        ) from None
    known = model_dicts[BenchmarkDataset(dataset)][ThreatModel(threat_model)]
    if model not in known:
        raise unknown(f"RobustBench model of {dataset} {threat_model}", model, known)
    network = known[model]["model"]()
    if weights is not None:
        # ImageNet models are the network behind a layer that normalises, whose constants are set.
        _load(getattr(network, "model", network), Path(weights), model)
    return Sized(network, size, dataset)


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
