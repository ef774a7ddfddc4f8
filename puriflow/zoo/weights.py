"""Weights: loading and saving them. Nothing here can run code from a file.

A state dict comes from safetensors, or from a .pth or .pt file that torch reads with
`weights_only`. It must fit the network exactly: no missing key, no unexpected one, equal shapes.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from puriflow.atomic import Replacing
from puriflow.checksums import check_beside
from puriflow.errors import UserError

# Under which key of a checkpoint the weights lie, the averaged ones before the last ones.
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, out of the key that a checkpoint may keep it under.

    Raises:
        UserError: there is no such file, it is not what it was, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    check_beside(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"weights file {path} is not a safetensors file: {error}") from None
    state = read_checkpoint(path)
    for _ in WRAPPERS:  # each may be in another one, but a checkpoint may also be in itself
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), state)
    if not state or not all(isinstance(key, str) and _is_whole(state[key]) for key in state):
        found = (key[:50] if isinstance(key, str) else type(key).__name__ for key in state)
        listed = ", ".join([*found][:5]) or "nothing"
        raise UserError(f"weights file {path} holds {listed}, not a state dict of tensors")
    return dict(state)


def _is_whole(value: Any) -> bool:
    """Whether it is a tensor, and all of it was in the file.

    A few bytes can claim to be a sparse tensor of any size, or one that repeats a value.
    """
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What torch.save wrote, of tensors and plain containers only; else a UserError."""
    try:
        with path.open("rb") as file:
            check_archive(file)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file can be broken in any way
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            why = f"it asks for {refused[1]}, which is no tensor and no container"
        else:
            why = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(f"weights file {path} cannot be read safely: {why}") from None
    if not isinstance(checkpoint, Mapping):
        found = type(checkpoint).__name__
        raise UserError(f"weights file {path} holds a {found}, not a state dict")
    return checkpoint


def check_archive(file: IO[bytes]) -> None:
    """Refuse a zip that would unpack to more than it is; torch packs nothing in its own.

    Raises:
        ValueError: it is packed, or is no zip after all.
    """
    if file.read(4) != b"PK\x03\x04":
        return  # what torch wrote before 1.6, which says the length of its parts beside these
    length, inner = file.seek(0, 2), zipfile.ZipFile(file).infolist()
    packed = any(one.compress_type != zipfile.ZIP_STORED for one in inner)
    if packed or sum(one.file_size for one in inner) > length:
        raise ValueError("it is packed, and might unpack to more than there is memory")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file strictly; a prefix that all keys share is dropped.

    Raises:
        UserError: the file is missing, cannot be read, or does not fit the network.
    """
    state = without_prefix(read_state(path), network)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        where = f"weights file {path} does not fit {type(network).__name__}"
        raise UserError(f"{where}: {' '.join(str(error).split())[:300]}") from None


def without_prefix(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state dict without what DataParallel and wrappers put before every key."""
    name = next(iter(network.state_dict()), "")
    for key in state:
        prefix = key.removesuffix(name)
        if prefix.endswith(".") and key != name and all(k.startswith(prefix) for k in state):
            return {k.removeprefix(prefix): value for k, value in state.items()}
    return state


def load_network(network: nn.Module, weights: str | Path | None) -> nn.Module:
    """Load `weights` (None leaves the network as initialised, for training) and make it ready."""
    if weights is not None:
        load_weights(network, weights)
    # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def save_weights(network: nn.Module, path: str | Path, *, half: bool = False) -> None:
    """Write the state dict as safetensors; with `half`, floating-point values as float16."""
    save_state(network.state_dict(), path, half=half)


def save_state(state: Mapping[str, Tensor], path: str | Path, *, half: bool = False) -> None:
    """See `save_weights`; a UserError if it cannot be written: what was there is left alone."""
    tensors = {}
    for key, value in state.items():
        value = value.detach().cpu()
        tensors[key] = (value.half() if half and value.is_floating_point() else value).contiguous()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Replacing(path) as temporary:
            save_file(tensors, temporary)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be written: {error}") from None
