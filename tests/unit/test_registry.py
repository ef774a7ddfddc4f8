"""The registry: a wrong value is one line, and what a part's own code raises is its own."""

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from puriflow import provenance, registry, sources
from puriflow.errors import UserError
from puriflow.registry import Kind, kinds, part_of


@pytest.fixture
def part(monkeypatch):
    """A part of a kind `mine`, whose `build` a test gives."""

    def made(build, **options):
        module = ModuleType("puriflow.restorers.mine")
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


# Files beside the parts


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The folder of the restorers, a copy of it."""
    package = tmp_path / "puriflow"
    shutil.copytree(sources.ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", package)
    registry.kinds.cache_clear()
    yield package / "restorers"
    registry.kinds.cache_clear()


def stray_files(folder: Path) -> None:
    """What editors, desktops and people leave beside modules."""
    (folder / ".#edsr.py").symlink_to("somebody@host.123:456")  # an editor's lock
    (folder / "._edsr.py").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X\xff")
    (folder / "edsr copy.py").write_text("def build(")
    (folder / "edsr-old.py").write_text("def build(")
    (folder / "folder.py").mkdir()
    (folder / "mdsr").mkdir()  # of another version, with no more than its __pycache__
    (folder / "gone.py").symlink_to("nowhere")
    (folder / "notes.txt").write_text("not Python")


BROKEN = {
    "syntax": b"def build(:\n",
    "latin": b"x = 'na\xefve'\n" + b"def build(*, h: float = 1): ...\n",
    "nul": b"x = 1\0\n",
    "deep": b"x = " + b"(" * 5000 + b")" * 5000 + b"\n",
}


def test_a_stray_file_is_no_part(beside):
    before = set(kinds("restorers"))
    registry.kinds.cache_clear()
    stray_files(beside)
    assert set(kinds("restorers")) == before
    made = part_of("restorer", "x", {"kind": "mdsr", "weights": None})
    assert len(provenance.code_hash(*made.modules())) == 64


@pytest.mark.parametrize("name", BROKEN)
def test_a_part_that_cannot_be_read_fails_alone_and_by_its_name(beside, name):
    expected = provenance.code_hash("puriflow.restorers.bicubic")
    (beside / f"{name}.py").write_bytes(BROKEN[name])
    registry.kinds.cache_clear()
    assert part_of("restorer", "x", {"kind": "bicubic"}).build().scale == 2
    assert provenance.code_hash("puriflow.restorers.bicubic") == expected
    with pytest.raises(UserError) as refused:
        part_of("restorer", "x", {"kind": name})
    assert f"kind {name!r}: {beside}/{name}.py cannot be read as Python: " in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=f"{name}.py cannot be read as Python"):
        provenance.code_hash(f"puriflow.restorers.{name}")


def test_a_module_in_another_encoding_that_says_so_is_read(beside):
    text = "# -*- coding: latin-1 -*-\n# na\xefve\ndef build(*, h: float = 1.0): ...\n"
    (beside / "naive.py").write_bytes(text.encode("latin-1"))
    registry.kinds.cache_clear()
    assert kinds("restorers")["naive"].declared == {"h": "float"}


def test_a_part_is_evaluated_and_frozen_whoever_wrote_it(part):
    def build(*, width: int = 3) -> object:
        return nn.Sequential(nn.BatchNorm2d(width), nn.Dropout(0.5)).train()

    built = part(build, width=3).build()
    assert not any(module.training for module in built.modules())
    assert not any(parameter.requires_grad for parameter in built.parameters())
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(built(x), x, rtol=1e-5, atol=1e-5)  # of fresh statistics
