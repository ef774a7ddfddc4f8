"""Weights: loading and saving them. Nothing here can run code from a file.

A state dict comes from safetensors, or from a .pth or .pt file that torch reads with
`weights_only`. It must fit the network exactly: no missing key, no unexpected one, equal shapes,
numbers of the same kind. Of averaged and last weights in one file, the averaged ones are read.
"""

import argparse
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
from puriflow.kernels import layout
from puriflow.weight_files import MADE_FROM

# Keys of a checkpoint under which weights lie: averaged ones, which are what was published, by any
# of the names that they have, and the last ones.
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?|shadow)(_|$)")
LAST = ("params", "state_dict", "model_state_dict", "model")
DEEPEST = 5  # of keys in each other


def read_state(path: str | Path, network: nn.Module | None = None) -> dict[str, Tensor]:
    """The state dict in a file, out of the keys that a checkpoint may keep it under.

    Averaged weights come before the last ones. score_sde's are a list in the order of the
    parameters of the `network`.

    Raises:
        UserError: there is no such file, it is not what it was, holds something else, or several
            averages.
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
    if network is not None and (named := named_average(path, state, network)) is not None:
        return named
    for _ in range(DEEPEST):  # each may be in another one, but a checkpoint may also be in itself
        state = _inner(path, state)
    if not state or not all(isinstance(key, str) and _is_whole(state[key]) for key in state):
        found = (key[:50] if isinstance(key, str) else type(key).__name__ for key in state)
        listed = ", ".join([*found][:5]) or "nothing"
        raise UserError(f"weights file {path} holds {listed}, not a state dict of tensors")
    return dict(state)


def _inner(path: Path, state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What a checkpoint keeps under the key of its weights; itself if it has none."""
    kept = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Mapping)}
    averages = [key for key in kept if AVERAGED.search(key) and _may_hold_tensors(kept[key])]
    if len(averages) > 1:
        listed = ", ".join(key[:50] for key in averages[:5])
        raise UserError(f"weights file {path} holds several averages, {listed}: save one of them")
    key = next((key for key in (*averages, *LAST) if key in kept), None)
    return state if key is None else state[key]


def _may_hold_tensors(value: Mapping[Any, Any]) -> bool:
    """Whether there can be weights in it: of an average, a checkpoint may keep the decay alone."""
    return any(isinstance(inner, Tensor | Mapping | list) for inner in value.values())


def named_average(
    path: Path, checkpoint: Mapping[Any, Any], network: nn.Module
) -> dict[str, Tensor] | None:
    """The averages of a checkpoint of score_sde under the names of the network's parameters.

    They are a list without names, in the order of the parameters; buffers are the last model's.
    None if it is no such checkpoint.

    Raises:
        UserError: it has the average of another number of parameters.
    """
    ema, model = checkpoint.get("ema"), checkpoint.get("model")
    if not isinstance(ema, Mapping) or "shadow_params" not in ema or not isinstance(model, Mapping):
        return None
    shadow, names = ema["shadow_params"], [name for name, _ in network.named_parameters()]
    if not isinstance(shadow, list) or not all(map(_is_whole, shadow)):
        raise UserError(f"weights file {path}: its ema.shadow_params are no list of tensors")
    if len(names) != len(shadow):
        counted = f"averages {len(shadow)} tensors, the network has {len(names)}"
        raise UserError(f"weights file {path} {counted}")
    last = {key.removeprefix("module."): v for key, v in model.items() if isinstance(key, str)}
    buffers = {name: last[name] for name, _ in network.named_buffers() if _is_whole(last.get(name))}
    return buffers | dict(zip(names, shadow, strict=True))


def _is_whole(value: Any) -> bool:
    """Whether it is a tensor, and all of it was in the file.

    A few bytes can claim to be a sparse tensor of any size, or one that repeats a value.
    """
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What torch.save wrote, of tensors and plain containers only; else a UserError.

    Beside these, the options of a training script, an `argparse.Namespace`: Bai et al. and many
    others save them in their checkpoints. It is data as well.
    """
    try:
        with path.open("rb") as file:
            zipped = check_archive(file)
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
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


def check_archive(file: IO[bytes]) -> bool:
    """Refuse a zip that would unpack to more than it is; torch packs nothing in its own.

    Returns:
        Whether it is a zip.

    Raises:
        ValueError: it is packed, or is no zip after all.
    """
    if file.read(4) != b"PK\x03\x04":
        return False  # as torch wrote before 1.6, where the length of its parts is beside these
    length, inner = file.seek(0, 2), zipfile.ZipFile(file).infolist()
    packed = any(one.compress_type != zipfile.ZIP_STORED for one in inner)
    if packed or sum(one.file_size for one in inner) > length:
        raise ValueError("it is packed, and might unpack to more than there is memory")
    return True


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file strictly; a prefix that all keys share is dropped.

    Raises:
        UserError: the file is missing, cannot be read, or does not fit the network.
    """
    state = without_prefix(read_state(path, network), network)
    load_state(network, state, f"weights file {path} does not fit {type(network).__name__}")


def load_state(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict that fits exactly; a UserError says `where` and why, if it does not."""
    check_numbers(state, network, where)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())[:300]}") from None


def check_numbers(state: Mapping[str, Tensor], network: nn.Module, where: str) -> None:
    """Check that tensors are of numbers of the same kind as the network's; of any width.

    torch copies what loses its meaning in others: of int8 and float8 the scale, of complex numbers
    the imaginary part, and of a list in the place of one number all but the first.

    Raises:
        UserError: `where`, and which is not.
    """
    for key, wanted in network.state_dict().items():
        if (value := state.get(key)) is None:
            continue
        if (found := _kind(value.dtype)) != (needed := _kind(wanted.dtype)):
            dtype = f"{str(value.dtype).removeprefix('torch.')} ({found})"
            cure = "" if found == "complex" else ": save it as that, with its scale applied"
            raise UserError(f"{where}: {key} is {dtype}, but should be {needed}{cure}")
        if wanted.ndim == 0 and value.numel() != 1:
            raise UserError(f"{where}: {key} is {tuple(value.shape)}, but should be one number")


def _kind(dtype: torch.dtype) -> str:
    """The kind of a tensor's numbers, within which one of another width has the same meaning."""
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:  # of 8 bits and fewer, none is without a scale
        return "floating-point" if dtype.itemsize > 1 else "scaled floating-point"
    return "boolean" if dtype is torch.bool else "whole numbers"


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
    return network.eval().requires_grad_(False).to(memory_format=layout())


def save_weights(network: nn.Module, path: str | Path, *, half: bool = False) -> None:
    """Write the state dict as safetensors; with `half`, floating-point values as float16."""
    save_state(network.state_dict(), path, half=half)


def save_state(
    state: Mapping[str, Tensor],
    path: str | Path,
    *,
    half: bool = False,
    made_from: str | None = None,
) -> None:
    """See `save_weights`; a UserError if it cannot be written: what was there is left alone.

    `made_from` is the sha256 of the official file of a conversion.
    """
    tensors = {}
    for key, value in state.items():
        value = value.detach().cpu()
        tensors[key] = (value.half() if half and value.is_floating_point() else value).contiguous()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Replacing(path) as temporary:
            save_file(tensors, temporary, None if made_from is None else {MADE_FROM: made_from})
    except SafetensorError as error:
        raise UserError(f"{path} cannot be written: {error}") from None
