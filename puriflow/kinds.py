"""A kind of part: what the text of a module says of its `build`, and where such modules are found.

A kind is PuriFlow's own, an entry point of an installed package, or any module by its dotted name.
Whatever is wrong with one is told only who asks for it.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from puriflow.errors import UserError
from puriflow.sources import OWN, constants, file_of, no_module, syntax_tree, top_of

BEHIND_RESULTS = False
# What is imported from these has the same meaning in the text of every module.
SHARED = ("puriflow.options", "typing", "collections.abc")


@dataclass(frozen=True)
class Kind:
    """A kind.

    Attributes:
        options: by name, whether the option must be given.
        declared: by option, its annotation as it is written, of names that mean the same anywhere.
        defaults: by option, what it is by default, where that is a plain value.
        constants: the plain values that its module gives to names at its top.
        broken: why it cannot be built; None if it can.
    """

    name: str
    module: str
    options: Mapping[str, bool] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    broken: str | None = None

    @property
    def trained_by(self) -> tuple[str, ...]:
        """The module whose `TRAINER` trains such parts; none where it goes by their role."""
        named = self.constants.get("TRAINED_BY")
        return (named,) if isinstance(named, str) else ()

    @property
    def is_own(self) -> bool:
        """Whether it is one of PuriFlow's."""
        return top_of(self.module) == OWN


def own_kinds(section: str) -> Iterator[Kind]:
    """The kinds of a family in this package: its modules that define `build`.

    A file that cannot be read is one too. What has no name of a module, as an editor's or a
    desktop's file, is none.
    """
    package = file_of(f"{OWN}.{section}")
    assert package is not None
    for file in sorted(package.parent.glob("*.py")):
        if file.stem.isidentifier() and file.is_file():
            name = file.stem.replace("_", "-")
            kind = read_kind(name, f"{OWN}.{section}.{file.stem}", file)
            if kind is not None:
                yield kind


def installed_kinds(section: str) -> Iterator[Kind]:
    """The kinds of a family by the entry points of its group, `puriflow.SECTION`."""
    for point in _entry_points().select(group=f"{OWN}.{section}"):
        module, _, attribute = point.value.replace(" ", "").partition(":")
        by = f"the entry point {point.name} = {point.value!r} of {_package_of(point)}"
        if attribute not in ("", "build"):
            why = f"{by} must name a module, whose `build` is called"
            yield Kind(point.name, module, broken=why)
            continue
        try:
            yield module_kind(point.name, module)
        except UserError as error:
            yield Kind(point.name, module, broken=f"{by} is broken: {error}")


@cache
def _entry_points() -> Any:
    return entry_points()  # reads the files of all that is installed


def _package_of(point: EntryPoint) -> str:
    return "a package" if point.dist is None else point.dist.name


@cache
def module_kind(name: str, module: str) -> Kind:
    """The kind of a name that is a module from outside.

    Raises:
        UserError: there is no such module, it cannot be read as Python, or has no `build`.
    """
    if (file := file_of(module)) is None:
        raise no_module(module)
    kind = read_kind(name, module, file)
    if kind is None:
        raise UserError(f"{file} defines no function `build`, whose arguments are its options")
    if kind.broken is not None:
        raise UserError(kind.broken)
    return kind


def read_kind(name: str, module: str, file: Path) -> Kind | None:
    """The kind that a module is, by its text; None if it defines no `build`."""
    try:
        tree = syntax_tree(file)
    except UserError as error:
        return Kind(name, module, broken=str(error))
    functions = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    if (build := next(functions, None)) is None:
        return None
    given = build.args
    if given.posonlyargs or given.vararg or given.kwarg:
        why = f"`build` in {file} must take its options by name, each one by itself"
        return Kind(name, module, broken=why)
    missing = [None] * (len(given.args) - len(given.defaults))
    pairs = [
        *zip(given.args, [*missing, *given.defaults], strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    meanings = _other_meanings(tree.body)
    return Kind(
        name,
        module,
        options={argument.arg: default is None for argument, default in pairs},
        declared={
            argument.arg: ast.unparse(argument.annotation)
            for argument, _ in pairs
            if argument.annotation and not _names(argument.annotation) & meanings
        },
        defaults={
            argument.arg: default.value
            for argument, default in pairs
            if isinstance(default, ast.Constant)
        },
        constants=constants(tree),
    )


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _other_meanings(body: list[ast.stmt]) -> set[str]:
    """The names to which a module gives a meaning of its own, which may also be that of an option.

    They are checked when the part is built.
    """
    found = set()
    for node in body:
        match node:
            case ast.ImportFrom(module=module, level=level, names=names):
                shared = level == 0 and module in SHARED
                found |= {a.asname or a.name for a in names if not shared or a.asname}
            case ast.Import(names=names):
                found |= {alias.asname or top_of(alias.name) for alias in names}
            case ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {name for target in targets for name in _names(target)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found
