"""What tells a defence of anybody's from another: its tensors, its attributes and its code.

What is in none of these, as the variables of a function that a part holds, is not seen; so a
benchmark that goes on also compares what the defence answers.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.benchmarking.record import digest_of
from puriflow.checksums import file_hash

LIBRARY = Path(torch.__file__).parent  # its modules are told by its version
OF_TORCH = {*vars(nn.Module()), "calls"}  # and what counts a random defence's calls


def identity_of(defence: nn.Module) -> str:
    """sha256 of a module: its tensors, the attributes of its parts, and the files of their code."""
    hashed = hashlib.sha256()
    for name, tensor in [*defence.named_parameters(), *defence.named_buffers()]:
        hashed.update(f"{name} {tensor_digest(tensor)}\n".encode())
    for name, module in defence.named_modules():
        own = {k: plain(v) for k, v in vars(module).items() if k not in OF_TORCH}
        said = [name, type(module).__qualname__, own]
        hashed.update(json.dumps(said, sort_keys=True).encode())
    hashed.update(json.dumps(code_of(type(m) for m in defence.modules())).encode())
    return hashed.hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of a tensor: type, shape and values."""
    row = tensor.detach().cpu().flatten().contiguous()  # of bytes: numpy knows no bfloat16
    values = digest_of(row.view(torch.uint8).numpy())
    return f"{tensor.dtype} {tuple(tensor.shape)} {values}"


def plain(value: Any) -> Any:
    """A value as plain data, in which hashes stand for tensors and modules; else its type."""
    match value:
        case bool() | int() | float() | str() | None:
            return value
        case list() | tuple():
            return [plain(one) for one in value]
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case Tensor():
            return tensor_digest(value)
        case np.ndarray():
            return digest_of(value)
        case nn.Module():
            return identity_of(value)
    if code := getattr(value, "__code__", None):
        return hashlib.sha256(code.co_code).hexdigest()
    return type(value).__name__


def code_of(kinds: Iterable[type]) -> list[str]:
    """Names and hashes of the files that define classes, but for torch's; none of a notebook's."""
    files = set()
    for kind in kinds:
        try:
            file = Path(inspect.getsourcefile(kind) or "")
        except (TypeError, OSError):
            continue
        if file.is_file() and LIBRARY not in file.parents:
            files.add(file)
    return sorted(f"{file.name} {file_hash(file)}" for file in files)
