"""The reference: pages about every kind of part and its options, and every command, from the code.

    python docs/site/reference.py

prints them as JSON, Markdown by path. It runs where PuriFlow is installed, which need not be where
the site is built (docs/site/requirements.txt); hooks.py beside it asks for them.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from puriflow.cli import app
from puriflow.kinds import Kind
from puriflow.options import allowed, values_of
from puriflow.registry import FAMILIES, INNER, Family, kinds
from puriflow.sources import file_of, syntax_tree

FOLDER = "docs/reference"
ARGUMENT = re.compile(r"^    (\w+): ")
SECTION = re.compile(r"^(?:Args|Attributes):\n((?:    .*(?:\n|$))+)", re.MULTILINE)
FAMILY = """# {title}

Generated from the code. A *kind* is what an entry of the section `{section}` of a
[track](../../config/README.md) names by `kind`; its options are the entry's other keys. What serves
as `{role}`, and how to add a kind: [parts](../how-it-works.md#parts), [adding one](../adding.md).
"""
API = """# Python

What `import puriflow` has, and what a track is loaded by.

::: puriflow.image_files.purify.purify

::: puriflow.defence.Defence

::: puriflow.benchmarking.benchmark.benchmark

::: puriflow.auditing.audit.audit

::: puriflow.config.loading.load_config

::: puriflow.registry.part_of

::: puriflow.store.reader.open_stage
"""
COMMANDS = """# Commands

Generated from the code; `puriflow COMMAND --help` says the same.
"""


def pages() -> dict[str, str]:
    """All pages, by their paths in the repository."""
    found = {f"{FOLDER}/{family.section}.md": family_page(family) for family in FAMILIES}
    return {**found, f"{FOLDER}/commands.md": commands_page(), f"{FOLDER}/api.md": API}


def family_page(family: Family) -> str:
    """The page of a family: its own kinds, each with its options."""
    title = family.section.replace("_", " ").capitalize()
    role = family.roles[0]
    parts = [FAMILY.format(title=title, section=family.section, role=role)]
    own = [kind for kind in kinds(family.section).values() if kind.is_own]
    return "\n".join([*parts, *map(kind_section, own)])


def kind_section(kind: Kind) -> str:
    """A kind: what its module says, what `build` says, and a table of its options."""
    file = file_of(kind.module)
    assert file is not None
    tree = syntax_tree(file)
    build = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
    module, function = (ast.get_docstring(node) or "" for node in (tree, build))
    said = function.partition("\n\nArgs:\n")[0]
    meanings = {**meanings_in(near(tree, kind)), **meanings_in([tree]), **meanings_in([build])}
    path = kind.module.replace(".", "/") + ".py"
    lines = [f"## `{kind.name}`", "", as_text(module), "", f"In [{path}](../../{path})."]
    if said:
        lines += ["", as_text(said)]
    if kind.options:
        titles = ["option", "values", "default"]
        if meanings.keys() & kind.options.keys():
            titles.append("meaning")
        written = written_in(build)
        lines += ["", row(titles), row(["---"] * len(titles))]
        for option in kind.options:
            annotation, default = written[option]
            cells = [f"`{option}`", values_text(kind, option, annotation), default]
            lines.append(row([*cells, meanings.get(option, "")][: len(titles)]))
    return "\n".join(lines) + "\n"


def written_in(build: ast.FunctionDef) -> dict[str, tuple[str, str]]:
    """The annotation and the default of each argument, as a track or the code would have them."""
    given = build.args
    missing = [None] * (len(given.args) - len(given.defaults))
    pairs = [
        *zip(given.args, [*missing, *given.defaults], strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]
    return {argument.arg: (as_code(argument.annotation), default_of(d)) for argument, d in pairs}


def default_of(node: ast.expr | None) -> str:
    """A default, in the words of a track if it is a plain value."""
    if node is None:
        return "must be given"
    return f"`{json.dumps(node.value)}`" if isinstance(node, ast.Constant) else as_code(node)


def as_code(node: ast.expr | None) -> str:
    """A piece of code."""
    return "" if node is None else f"`{ast.unparse(node)}`"


def row(cells: list[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def values_text(kind: Kind, option: str, annotation: str) -> str:
    """The values that an option takes, in words."""
    if option in INNER:
        return "the name of an entry, or an entry itself"
    if option == "weights":
        return "a file, or null for random ones"
    declared = kind.declared.get(option)
    values = None if declared is None else values_of(declared)
    return annotation if values is None else allowed(values.declared)


def near(tree: ast.Module, kind: Kind) -> list[ast.Module]:
    """The modules of the same family that a kind's module imports, whose classes it builds on."""
    package = kind.module.rpartition(".")[0]
    names = {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module}
    files = (file_of(name) for name in sorted(names) if name.startswith(f"{package}."))
    return [syntax_tree(file) for file in files if file is not None]


def meanings_in(nodes: Sequence[ast.AST]) -> dict[str, str]:
    """What the docstrings of functions and classes in some code say of their arguments."""
    found: dict[str, str] = {}
    documented = (ast.FunctionDef, ast.ClassDef)
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        for section in SECTION.findall(text or ""):
            found |= meanings_of(section)
    return found


def meanings_of(arguments: str) -> dict[str, str]:
    """What a section of a docstring says of each argument."""
    found: dict[str, str] = {}
    name = None
    for line in arguments.splitlines():
        if begun := ARGUMENT.match(line):
            name = begun[1]
            found[name] = line[begun.end() :].strip()
        elif name:
            found[name] += f" {line.strip()}"
    return {name: as_text(text) for name, text in found.items()}


def as_text(text: str) -> str:
    """Plain text of a docstring as Markdown: nothing in it is markup but its backticks."""
    pieces = re.split(r"(`[^`]*`|^    .*$)", text, flags=re.MULTILINE)  # or an equation's line
    kept = ("`", "    ")
    return "".join(
        p if p.startswith(kept) else re.sub(r"([*_<>\[\]#])", r"\\\1", p) for p in pieces
    )


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    parts = [COMMANDS, command_section(root, "puriflow")]
    return "\n".join(parts)


def command_section(command: Any, name: str) -> str:
    """A command, and those below it."""
    below = getattr(command, "commands", {})
    # A form feed ends what is said to people; typer's own options are the same everywhere.
    said = inspect.cleandoc(command.help or "").partition("\f")[0]
    lines = [f"## `{name}`", "", as_text(said)]
    rows = [row for parameter in command.params if (row := parameter_row(parameter))]
    if rows:
        lines += ["", "| argument or option | meaning | default |", "|---|---|---|", *rows]
    sections = [command_section(one, f"{name} {word}") for word, one in below.items()]
    return "\n".join(["\n".join(lines) + "\n", *sections])


def parameter_row(parameter: Any) -> str | None:
    """An argument or option, as a row; None of those that complete a shell's words."""
    if parameter.name in ("install_completion", "show_completion"):
        return None
    is_argument = parameter.param_type_name == "argument"
    names = (
        [parameter.name.upper()] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    )
    default = parameter.default
    shown = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "must be given"
    said = as_text(getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| {', '.join(f'`{one}`' for one in names)} | {said} | {shown} |"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    json.dump(pages(), sys.stdout)
