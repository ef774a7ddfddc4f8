"""What made a result: hashes of files and of the code behind a stage.

The code of a stage is its own module, the module of the part it runs, and whatever those import
from this package; comments and docstrings do not count. The style file of the pictures counts with
the module that reads it. A change elsewhere reruns nothing.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from puriflow.zoo.catalogue import PREFIX, entry, ready_file

ROOT = Path(__file__).parent
# How results are kept, shown and started, not what they are.
NOT_RESULTS = frozenset(
    f"puriflow.{name}"
    for name in (
        *("chain", "cli", "config", "device", "errors", "parts", "progress", "provenance", "store"),
        *("zoo", "zoo.catalogue", "zoo.commands", "zoo.download", "zoo.fetching"),
        "pictures.curve",  # of a training run
    )
) | {"puriflow"}


def file_hash(path: str | Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_hash(*modules: str) -> str:
    """sha256 over the source of modules and of all that they import from puriflow."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen and module not in NOT_RESULTS:
            seen.add(module)
            waiting.extend(_imports(module))
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(f"{module}\n{_meaning(module)}\n".encode())
    return digest.hexdigest()


def weights_in(spec: dict[str, Any]) -> Iterator[str]:
    """The weights files that an entry of the configuration names, at any depth."""
    for key, value in spec.items():
        if key == "weights" and isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from weights_in(value)


def weights_hashes(spec: dict[str, Any]) -> dict[str, str]:
    """sha256 of every weights file of an entry that is here, by path or `zoo:NAME`."""
    files = {
        weights: ready_file(weights.removeprefix(PREFIX))
        if weights.startswith(PREFIX)
        else Path(weights)
        for weights in weights_in(spec)
    }
    return {weights: _weights_hash(str(f)) for weights, f in files.items() if f.is_file()}


def weights_identities(spec: dict[str, Any]) -> dict[str, str]:
    """What tells the weights of an entry from others, before and after they are fetched.

    For a zoo entry that is its published hash, for a file its sha256.
    """
    found = {}
    for weights in weights_in(spec):
        if weights.startswith(PREFIX):
            found[weights] = entry(weights.removeprefix(PREFIX)).identity
        else:
            found |= weights_hashes({"weights": weights})
    return found


def _weights_hash(path: str) -> str:
    state = Path(path).stat()
    return _hash_once(path, state.st_size, state.st_mtime_ns)


@cache
def _hash_once(path: str, size: int, modified: int) -> str:
    """Hash a file once for a process: checkpoints have gigabytes, and many jobs share one."""
    return file_hash(path)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text())


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(module: str) -> Iterable[str]:
    for node in ast.walk(_tree(module)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("puriflow") and _file(name).is_file():
                yield name


@cache
def _meaning(module: str) -> str:
    """The module as a syntax tree, without docstrings; and its style file, if it has one."""
    style = _file(module).with_suffix(".mplstyle")
    tree = ast.parse(_file(module).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            del body[0]
    return ast.dump(tree) + (style.read_text() if style.is_file() else "")
