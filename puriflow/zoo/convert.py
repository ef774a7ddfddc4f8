"""From official files that are no plain state dict to safetensors: `puriflow zoo convert`.

EDM publishes pickles whose loading executes the source code that they carry. Here such a file is
read by an unpickler that knows tensors, plain containers and the bare shape of a module, and
refuses every other name; no code of the file is looked at. score_sde keeps the averaged weights as
a list without names, ESRGAN has older keys, and ncnn's pairs have none (puriflow.zoo.ncnn).
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puriflow.atomic import Replacing, sha256, write_text
from puriflow.checksums import check_beside, recorded
from puriflow.errors import UserError, on_disk, unknown
from puriflow.registry import family_named, part_of
from puriflow.weight_files import made_of
from puriflow.zoo import ncnn
from puriflow.zoo.weights import (
    check_archive,
    check_numbers,
    named_average,
    read_checkpoint,
    read_state,
    save_state,
)


def convert(
    converter: str, source: Path, target: Path, section: str, entry: Mapping[str, Any]
) -> None:
    """Convert an official file to safetensors; the caller sees to it that one process does.

    The target gets its name when it is whole, and says what it was made from. It must fit the
    network of the part that loads it: one of the family `section`, with the kind and the options of
    `entry`.

    Raises:
        UserError: the file is not what its converter reads, would run code, or fits another
            network.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"file {source} would be replaced by what it is converted to")
    state = converted(converter, source, section, entry)
    with on_disk(target), Replacing(target) as temporary:
        save_state(state, temporary, made_from=made_of(source, converter.partition(":")[2]))
        write_text(recorded(target), sha256(temporary) + "\n")


def converted(
    converter: str, source: Path, section: str, entry: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The state dict that an official file is converted to; see `convert`."""
    kind, _, inner = converter.partition(":")
    if kind not in CONVERTERS:
        raise unknown("converter", kind, CONVERTERS)
    if not source.is_file():
        raise UserError(f"file {source} does not exist")
    check_beside(source)
    with torch.device("meta"):
        role = family_named(section).roles[0]
        network = part_of(role, entry["kind"], {**entry, "weights": None}).build().network
    state = CONVERTERS[kind](source, network, *filter(None, [inner]))
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in sorted(shapes.keys() | wanted.keys()):
        if shapes.get(key) != wanted.get(key):
            raise UserError(
                f"file {source} does not fit {entry['kind']}: {key} is {shapes.get(key)}, but "
                f"should be {wanted.get(key)}"
            )
    check_numbers(state, network, f"file {source} does not fit {entry['kind']}")
    return state


class Shell:
    """Stands for any object of the file: keeps the state, has no behaviour."""

    def __init__(self, *arguments: Any):
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Table(dict):
    """EDM's EasyDict."""

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {})


class Allowed:
    """A function that a pickle may call, behind a wall: it cannot be changed through its name."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UserError("it changes a function")

    def __setstate__(self, state: Any) -> None:
        raise UserError("it changes a function")


def _persistent(meta: dict[str, Any]) -> Shell:
    """EDM's pickled module: its state, without the source that came with it."""
    shell = Shell()
    shell.state = meta["state"]
    return shell


def _storage(data: bytes) -> Any:
    """A tensor's storage, which torch pickles as a stream of its own."""
    try:
        check_archive(io.BytesIO(data))
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, ValueError, zipfile.BadZipFile):
        raise UserError("the bytes of a tensor hold something else than a tensor") from None


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): Allowed(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): Allowed(torch._utils._rebuild_parameter),
    ("torch.storage", "_load_from_bytes"): Allowed(_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Allowed(_persistent),
    ("torch.nn.modules.container", "ModuleDict"): Shell,
    ("dnnlib.util", "EasyDict"): Table,
    # EDM keeps numbers such as sqrt(0.5) as numpy's; no weight is among them.
    ("numpy", "dtype"): Shell,
    ("numpy.core.multiarray", "scalar"): Shell,
    ("numpy._core.multiarray", "scalar"): Shell,
}


class Unpickler(pickle._Unpickler):
    """Reads tensors, plain containers and modules' states; refuses every other name.

    It is Python's own in Python: that in C makes room for as many objects as a file claims to have.
    """

    def find_class(self, module: str, name: str) -> Any:
        """See pickle.Unpickler: the only door from a pickle to code."""
        if (module, name) not in ALLOWED:
            raise UserError(f"it asks for {module}.{name}, which is no tensor and no container")
        return ALLOWED[module, name]


def _edm(source: Path, network: nn.Module) -> dict[str, Tensor]:
    try:
        with source.open("rb") as file:
            found = Unpickler(file).load()
        return _state_of(found["ema"])
    except UserError as error:
        raise UserError(f"pickle {source} is refused: {error}") from None
    except Exception as error:  # a pickle can be broken in any way
        first = " ".join(str(error).split())[:200]
        raise UserError(
            f"pickle {source} is not one of EDM's: {type(error).__name__}: {first}"
        ) from None


def _state_of(network: Shell) -> dict[str, Tensor]:
    """The state dict of a pickled module, from the three tables that every nn.Module has."""
    state: dict[str, Tensor] = {}
    waiting, seen = [("", network)], set()
    while waiting:
        prefix, module = waiting.pop()
        if id(module) in seen:  # a few bytes could stand for modules without end
            raise UserError(f"its module {prefix[:50]} is in it twice")
        seen.add(id(module))
        tables = module.state
        non_persistent = tables.get("_non_persistent_buffers_set", ())
        for name, value in {**tables["_parameters"], **tables["_buffers"]}.items():
            if isinstance(value, Tensor) and name not in non_persistent:
                state[prefix + name] = value.detach()
        for name, child in tables["_modules"].items():
            if child is not None:
                waiting.append((f"{prefix}{name}.", child))
    return state


def _score_sde(source: Path, network: nn.Module) -> dict[str, Tensor]:
    """The moving average, a list in the order of the parameters, under the parameters' names."""
    state = named_average(source, read_checkpoint(source), network)
    if state is None:
        raise UserError(f"file {source} has no ema.shadow_params and model: no score_sde")
    return state


RENAMED = (
    (r"^RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"^trunk_conv\.", "conv_body."),
    (r"^upconv(\d)\.", r"conv_up\1."),
    (r"^HRconv\.", "conv_hr."),
)


def _esrgan(source: Path, network: nn.Module) -> dict[str, Tensor]:
    """ESRGAN's first keys to Real-ESRGAN's."""
    renamed = {}
    for key, value in read_state(source).items():
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _ncnn(source: Path, network: nn.Module, pair: str) -> dict[str, Tensor]:
    """What a wheel holds for ncnn, `ncnn:PATH` of a pair in it."""
    return ncnn.state_of(source, pair, network)


CONVERTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "edm": _edm,
    "score-sde": _score_sde,
    "esrgan": _esrgan,
    "ncnn": _ncnn,
}
