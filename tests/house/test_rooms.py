"""The house: rooms (folders and modules of puriflow/) and which of them import which.

CONTRIBUTING.md draws it; here the picture is held against the code.
"""

import ast
import re
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
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


def drawn_floors(repository: Path) -> list[list[str]]:
    """The floors that CONTRIBUTING.md draws, from the ground up.

    A line has rooms, a bar, and what they are; without the last it goes on with the floor above it.
    """
    floors: list[list[str]] = []
    for line in (repository / "CONTRIBUTING.md").read_text().splitlines():
        names, bar, what = line.partition("│")
        if bar and what:
            floors.append(names.split())
        elif bar:
            floors[-1] += names.split()
    return floors[::-1]


def lowest_floors(rooms: dict[str, set[str]]) -> list[list[str]]:
    """The floors of the code, from the ground up: every room as low as what it imports allows."""
    sorter = TopologicalSorter(rooms)
    with suppress(CycleError):  # rooms in a circle, and what is above them, are left out
        sorter.prepare()
    floors = []
    while sorter.is_active():
        floors.append(sorted(sorter.get_ready()))
        sorter.done(*floors[-1])
    return floors


def test_the_picture_has_every_room_above_what_it_imports(repository, rooms):
    floors = drawn_floors(repository)
    height = {name: number for number, floor in enumerate(floors) for name in floor}
    wrong = [f"{name} is not a room" for name in sorted(height.keys() - rooms.keys())]
    wrong += [f"{name} is not drawn" for name in sorted(rooms.keys() - height.keys())]
    wrong += [
        f"{name} imports {other}, which is not below it"
        for name in sorted(rooms.keys() & height.keys())
        for other in sorted(rooms[name] & height.keys())
        if height[other] >= height[name]
    ]
    lowest = "\n".join("  ".join(floor) for floor in reversed(lowest_floors(rooms)))
    assert not wrong, (
        "CONTRIBUTING.md: "
        + "; ".join(wrong)
        + f"\nThe lowest floors that the code allows:\n{lowest}"
    )
    assert sum(map(len, floors)) == len(height), "CONTRIBUTING.md draws a room twice"


def test_the_list_says_what_every_room_is_for(repository):
    text = (
        (repository / "CONTRIBUTING.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    )
    listed = [
        name
        for line in text.splitlines()
        for name in re.findall("`([^`]+)`", line[: line.find("|", 1)])
    ]
    package = repository / "puriflow"
    inside = [f for f in package.iterdir() if f.name[0] != "_" and f.suffix in ("", ".py")]
    assert sorted(listed) == sorted(f"{f.name}/" if f.is_dir() else f.stem for f in inside)
