"""Modules read as text: where their files are, without importing them or the packages around them.

They are PuriFlow's own, or of packages from outside: installed ones, or folders beside the
Snakefile. So the working folder counts as a place to import from, behind all others, whether
Python, Snakemake or the `puriflow` command was started, which do not agree about it.
"""

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puriflow.errors import UserError, unknown

BEHIND_RESULTS = False
OWN = "puriflow"
ROOT = Path(__file__).parent
WORKING_FOLDER = ""  # as Python spells it in sys.path


def top_of(module: str) -> str:
    """The package that a module is of: the first part of its name."""
    return module.partition(".")[0]


def with_packages(module: str) -> list[str]:
    """A module and the packages that it is in, whose code is run before its own."""
    names = module.split(".")
    return [".".join(names[: i + 1]) for i in range(len(names))]


def file_of(module: str) -> Path | None:
    """The file of a module, of a package that of its `__init__`; None if there is none."""
    names = module.split(".")
    if not all(map(str.isidentifier, names)):
        return None
    paths = (folder.joinpath(*names[1:]) for folder in _folders(names[0]))
    files = (file for path in paths for file in (path / "__init__.py", path.with_suffix(".py")))
    return next(filter(Path.is_file, files), None)


def _folders(top: str) -> list[Path]:
    """The folders of a package; of a module that is a file alone, the folder that it would be."""
    if top == OWN:
        return [ROOT]
    if WORKING_FOLDER not in sys.path:
        sys.path.append(WORKING_FOLDER)
    try:
        spec = importlib.util.find_spec(top)  # of the first name alone, it imports nothing
    except (ImportError, ValueError):  # of a module that was made by hand
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(str(spec.origin)).with_suffix("")]


def no_module(module: str) -> UserError:
    """The error that a module is not there, with the nearest one that is."""
    for package in reversed(with_packages(module)[:-1]):
        folders = (f.joinpath(*package.split(".")[1:]) for f in _folders(top_of(package)))
        if beside := [f"{package}.{name}" for folder in folders for name in _modules(folder)]:
            return unknown(f"module of {package}", module, beside)
    here = [path for path in Path().iterdir() if path.stem.isidentifier()]
    beside = [file.stem for file in here if file.suffix == ".py"]
    beside += [f"{folder.name}.{name}" for folder in here for name in _modules(folder)]
    return unknown("module (it is neither installed nor in the working folder)", module, beside)


def _modules(folder: Path) -> Iterator[str]:
    """The modules in a folder that may be a package."""
    if folder.name.isidentifier():
        names = (file.stem for file in folder.glob("*.py") if file.stem != "__init__")
        yield from filter(str.isidentifier, names)


def is_library(file: Path) -> bool:
    """Whether a module is installed, or Python's own: its version tells what it does."""
    installed = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return any(file.resolve().is_relative_to(Path(folder).resolve()) for folder in installed)


def syntax_tree(file: Path) -> ast.Module:
    """The syntax tree of a module; a UserError that names the file if it has none."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = " ".join(str(error).split()) or "it is nested too deep"
        raise UserError(f"{file} cannot be read as Python: {why}") from None


def constants(tree: ast.Module) -> dict[str, Any]:
    """The plain values that a module gives to names at its top."""
    found = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Constant(value=str() | bool() | int() | float() as value),
            ):
                found[name] = value
    return found
