"""Which kinds of results there are, and which results: files of config/, by folder.

Kinds are found in the text of this package, so that a new one is a file that is there, and none is
imported before it is needed.
"""

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from puriflow.errors import UserError, unknown
from puriflow.results.base import Judged, Result
from puriflow.yaml_files import read_yaml

CONFIG = Path("config")


@cache
def classes(package: str, attribute: str) -> dict[str, tuple[str, str]]:
    """Module and name of the classes in a package that set an attribute, by its value."""
    known = {}
    root = Path(__file__).parents[1].joinpath(*package.split(".")[1:])
    for file in sorted(root.rglob("*.py")):
        module = ".".join((package, *file.relative_to(root).with_suffix("").parts))
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and (value := _value(node, attribute)) is not None:
                known[value] = (module, node.name)
    return known


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
        raise unknown("folder of results", folder, known)
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


def names(config: Path = CONFIG) -> dict[str, list[str]]:
    """The names of all results, by the folder of their files."""
    return {
        folder: sorted(file.stem for file in (config / folder).glob("*.yaml"))
        for folder in classes(__package__, "folder")
    }


def find(name: str, config: Path = CONFIG) -> Path:
    """The file of a result.

    Raises:
        UserError: there is none, or two results share the name.
    """
    listed = names(config)
    files = [config / folder / f"{name}.yaml" for folder in listed if name in listed[folder]]
    if not files:
        raise unknown("result", name, [known for files in listed.values() for known in files])
    if len(files) > 1:
        raise UserError(f"{files[0]} and {files[1]} share the name {name}: rename one of them")
    return files[0]


def find_judged(name: str, config: Path = CONFIG) -> Judged:
    """The result of a name, if claims may be about it."""
    result = load_result(find(name, config))
    if not isinstance(result, Judged):
        raise UserError(f"results of config/{result.folder}, as {name}, have no claims and no page")
    return result


def _judged(config: Path) -> Iterator[tuple[str, type[Judged]]]:
    for folder, listed in names(config).items():
        if issubclass(kind := class_of(folder), Judged):
            yield from ((name, kind) for name in listed)


def judged_results(config: Path = CONFIG) -> list[str]:
    """Names of all results that claims may be about."""
    return [name for name, _ in _judged(config)]


def paper_results(config: Path = CONFIG) -> list[str]:
    """Names of the results that are the paper's own."""
    return [name for name, kind in _judged(config) if kind.of_paper(name)]
