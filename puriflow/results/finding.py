"""Which kinds of results there are, and which results: files of config/, by folder.

Kinds are found in the text of this package, so that a new one is a file that is there, and none is
imported before it is needed.
"""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from puriflow.errors import UserError, unknown
from puriflow.results.base import Judged, Result
from puriflow.shipped import shipped
from puriflow.yaml_files import read_yaml

RESULT = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # the name of a result: a part of paths


@cache
def classes(package: str, attribute: str) -> dict[str, tuple[str, str]]:
    """Module and name of the classes in a package that set an attribute, by its value."""
    known = {}
    for module, tree in _modules(package).items():
        for node in tree.body if isinstance(tree, ast.Module) else ():
            if isinstance(node, ast.ClassDef) and (value := _value(node, attribute)) is not None:
                known[value] = (module, node.name)
    return known


@cache
def _modules(package: str) -> dict[str, ast.Module | str]:
    """The modules in a package by name: their trees, or why one cannot be read."""
    found: dict[str, ast.Module | str] = {}
    root = Path(__file__).parents[1].joinpath(*package.split(".")[1:])
    for file in sorted(root.rglob("*.py")):
        names = file.relative_to(root).with_suffix("").parts
        if all(name.isidentifier() for name in names):  # and no ._x.py of an editor or a disk
            try:
                found[".".join((package, *names))] = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError) as error:
                found[".".join((package, *names))] = f"{file} cannot be read: {error}"
    return found


def unknown_kind(what: str, name: str, known: Iterable[str]) -> UserError:
    """`unknown`, of something that modules of this package say; with those that cannot be read."""
    broken = [tree for tree in _modules(__package__).values() if isinstance(tree, str)]
    return UserError("; ".join([str(unknown(what, name, known)), *broken]))


def _value(node: ast.ClassDef, attribute: str) -> str | None:
    """The text that a class sets an attribute to, in its own body."""
    for line in node.body:
        match line:
            case ast.AnnAssign(ast.Name(id), value=ast.Constant(str(value))) if id == attribute:
                return value
    return None


def class_of(folder: str) -> type[Result]:
    """The kind of result whose files a folder of config/ holds."""
    known = classes(__package__, "folder")
    if folder not in known:
        raise unknown_kind("folder of results", folder, known)
    module, name = known[folder]
    return getattr(importlib.import_module(module), name)


def load_result(file: str | Path) -> Result:
    """Read and check the file of a result; the folder that it is in says of what kind it is.

    Raises:
        UserError: it is missing, says something that is not known, or is in no folder of results.
    """
    file = Path(file)
    kind = class_of(file.absolute().parent.name)
    return kind.load(read_yaml(file, "result"), f"result {file}")


def names(config: Path) -> dict[str, list[str]]:
    """The names of all results, by the folder of their files."""
    return {
        folder: [file.stem for file in files if re.fullmatch(RESULT, file.stem)]
        for folder, files in _files(config).items()
    }


def misnamed(config: Path) -> list[Path]:
    """Files beside those of results whose names cannot be a result's; hidden ones are left out."""
    files = (file for files in _files(config).values() for file in files)
    return [file for file in files if not re.fullmatch(rf"\..*|{RESULT}", file.stem, re.DOTALL)]


def results_folder(beside: Path | None = None) -> Path:
    """The folder of the files of results: the first that has any.

    That is one beside a track, if it is given, or `config/` of the working folder; or else the
    `config/` that PuriFlow ships.
    """
    own = [folder for folder in (beside, Path("config")) if folder is not None]
    kinds = classes(__package__, "folder")
    has_any = (f for f in own if any((f / kind).is_dir() for kind in kinds))
    return next(has_any, shipped("config"))


def _files(config: Path) -> dict[str, list[Path]]:
    folders = classes(__package__, "folder")
    return {folder: sorted((config / folder).glob("*.yaml")) for folder in folders}


def find(name: str, config: Path) -> Path:
    """The file of a result.

    Raises:
        UserError: there is none, or two results share the name.
    """
    listed = names(config)
    files = [config / folder / f"{name}.yaml" for folder in listed if name in listed[folder]]
    if not files:
        known = [known for files in listed.values() for known in files]
        raise unknown_kind("result", name, known)
    if len(files) > 1:
        raise UserError(f"{files[0]} and {files[1]} share the name {name}: rename one of them")
    return files[0]


def find_judged(name: str, config: Path) -> Judged:
    """The result of a name, if claims may be about it."""
    result = load_result(find(name, config))
    if not isinstance(result, Judged):
        raise UserError(f"results of config/{result.folder}, as {name}, have no claims and no page")
    return result


def _judged(config: Path) -> Iterator[tuple[str, type[Judged]]]:
    for folder, listed in names(config).items():
        if issubclass(kind := class_of(folder), Judged):
            yield from ((name, kind) for name in listed)


def judged_results(config: Path) -> list[str]:
    """Names of all results that claims may be about."""
    return [name for name, _ in _judged(config)]


def paper_results(config: Path) -> list[str]:
    """Names of the results that are the paper's own."""
    return [name for name, kind in _judged(config) if kind.of_paper(name)]
