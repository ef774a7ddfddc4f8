"""Weights files: safetensors in, strictly, and out. Nothing here can run code from a file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from puriflow.errors import Problem


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a safetensors state dict: no missing, no unexpected key, equal shapes.

    Raises:
        Problem: the file is missing, is not safetensors, or does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise Problem(f"weights file {path} does not exist")
    try:
        state = load_file(path)
        network.load_state_dict(state, strict=True)
    except SafetensorError as error:
        raise Problem(f"weights file {path} is not a safetensors file: {error}") from None
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise Problem(
            f"weights file {path} does not fit {type(network).__name__}: {first}"
        ) from None


def load_network(network: nn.Module, weights: str | Path | None) -> nn.Module:
    """Load `weights` (None leaves the network as initialised, for training) and make it ready."""
    if weights is not None:
        load_weights(network, weights)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the state dict as safetensors."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
