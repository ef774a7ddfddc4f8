"""The house: rooms (folders and modules of puriflow/) and which of them import which.

CONTRIBUTING.md draws it; here the picture is held against the code.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LONGEST = 350  # lines of a module


def modules(root: Path) -> dict[str, Path]:
    """All modules of the package by name, without what only hands names on."""
    found = {}
    for file in sorted((root / "puriflow").rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a module imports, also inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found & known.keys() - {"puriflow"}


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.fixture(scope="module")
def house(repository) -> dict[str, set[str]]:
    """The modules that each module imports."""
    known = modules(repository)
    return {name: imports(file, known) for name, file in known.items() if name != "puriflow"}


@pytest.fixture(scope="module")
def rooms(house) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = {}
    for module, others in house.items():
        named = found.setdefault(room(module), set())
        named |= {room(other) for other in others} - {room(module)}
    return found


def test_no_circle_of_imports(house, rooms):
    list(TopologicalSorter(house).static_order())  # raises CycleError, with the circle
    list(TopologicalSorter(rooms).static_order())


def test_no_module_is_long(repository):
    lengths = {name: len(f.read_text().splitlines()) for name, f in modules(repository).items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
