"""The registry: a wrong value is one line, and what a part's own code raises is its own."""

import sys
from types import ModuleType

import pytest

from puriflow.errors import UserError
from puriflow.registry import Kind, kinds, part_of


@pytest.fixture
def part(monkeypatch):
    """A part of a kind `mine`, whose `build` a test gives."""

    def made(build, **options):
        module = ModuleType("part_of_mine")
        module.build = build
        monkeypatch.setitem(sys.modules, module.__name__, module)
        mine = Kind("mine", module.__name__, dict.fromkeys(options, False))
        monkeypatch.setitem(kinds("restorers"), "mine", mine)
        return part_of("restorer", "sr", {"kind": "mine", **options})

    return made


def test_options_reach_the_part_as_it_declares_them(part):
    def build(*, scale: int = 2, sizes: tuple[int, ...] = ()) -> object:
        return scale, sizes

    assert part(build, scale=4, sizes=[1, 2]).build() == (4, (1, 2))


@pytest.mark.parametrize("value", ["two", 2.5, None, [2]])
def test_a_value_that_the_part_does_not_take_is_one_line(part, value):
    def build(*, scale: int = 2) -> object:
        pytest.fail("it was built")

    with pytest.raises(UserError) as refused:
        part(build, scale=value).build()
    assert str(refused.value).startswith(
        f"config restorers.sr: scale is {value!r}, but must be a whole number"
    )
    assert "\n" not in str(refused.value)


def test_a_type_error_of_the_part_s_own_code_is_a_type_error(part):
    def build(*, scale: int = 2) -> object:
        return len(scale)  # the author's mistake

    with pytest.raises(TypeError, match="has no len"):
        part(build, scale=4).build()


def test_a_value_error_of_the_part_s_own_code_names_the_entry(part):
    def build(*, scale: int = 2) -> object:
        raise ValueError(f"{scale} is odd")

    with pytest.raises(UserError, match=r"config restorers\.sr: 3 is odd"):
        part(build, scale=3).build()
