"""Parts from outside: modules by their dotted names, entry points, and what is wrong with them."""

import importlib
import subprocess
import sys

import pytest

from puriflow import kinds as texts
from puriflow import provenance, registry
from puriflow.errors import UserError
from puriflow.registry import part_of

BLUR = """
import torch
from puriflow.options import Count
from .tools import Width, shifted

def build(sigma: float, *, rounds: Count = 2, width: Width = 3):
    from puriflow.restorers.bicubic import build
    return build(scale=int(sigma))
"""
TOOLS = """
from puriflow.restorers import rescaling
Width = int

def shifted(x):
    return x + 1
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A working folder with a package, in which files are written by their names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)

    def forget():
        for known in (registry.kinds, texts.module_kind, texts._entry_points):
            known.cache_clear()
        importlib.invalidate_caches()

    def write(files):
        for name, text in files.items():
            file = tmp_path / "mypack" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        forget()

    write({"blur": BLUR, "tools": TOOLS, "other": "x = 1\n"})
    write.install = lambda points: (install(tmp_path / "site", points), forget())
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield write
    for name in set(sys.modules) - before:
        if name.startswith("mypack"):
            del sys.modules[name]
    forget()


def install(site, points):
    """An installed package `mydist` with entry points, as pip leaves it."""
    folder = site / "mydist-1.5.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mydist\nVersion: 1.5\n")
    (folder / "top_level.txt").write_text("mypack\n")
    (folder / "entry_points.txt").write_text(points)


def blur(**options):
    return part_of("restorer", "mine", {"kind": "mypack.blur", "sigma": 2, **options})


def refused(role="restorer", **entry):
    with pytest.raises(UserError) as caught:
        part_of(role, "mine", entry).build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_module_beside_the_snakefile_is_a_part(study):
    part = blur()
    assert "mypack" not in sys.modules  # looked up as text
    assert part.value("rounds") == 2
    assert part.build().scale == 2
    assert part.complete() == {"kind": "mypack.blur", "sigma": 2, "rounds": 2, "width": 3}


def test_a_look_up_imports_neither_the_part_nor_torch(study):
    code = (
        "import sys\nfrom puriflow.registry import part_of\nfrom puriflow.provenance import *\n"
        "part = part_of('restorer', 'mine', {'kind': 'mypack.blur', 'sigma': 2})\n"
        "code_hash(*part.modules()), versions(*part.modules())\n"
        "sys.exit(', '.join({'torch', 'mypack'} & {*sys.modules}) or 0)"
    )
    # -P as the `puriflow` command: the working folder is not where Python imports from
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_its_options_are_checked_as_those_of_own_kinds(study):
    assert refused(kind="mypack.blur") == "config restorers.mine: mypack.blur needs sigma"
    assert "sigma is 'two', but must be a finite number" in refused(kind="mypack.blur", sigma="two")
    assert "did you mean 'rounds'" in refused(kind="mypack.blur", sigma=2, round=3)
    assert "rounds is 0, but must be a whole number from 1" in refused(
        kind="mypack.blur", sigma=2, rounds=0
    )
    # a type of its own has the meaning that the part gives it, once it is built
    assert "width is 'w', but must be a whole number" in refused(
        kind="mypack.blur", sigma=2, width="w"
    )


def test_a_type_of_its_own_is_not_taken_for_another_of_that_name(study):
    study({"blur": "from mypack.tools import Scale\ndef build(*, scale: Scale = 1): ...\n"})
    entry = {"kind": "mypack.blur", "scale": "large"}  # options.Scale is a number
    assert part_of("restorer", "mine", entry).options == {"scale": "large"}


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        ("blur", BLUR.replace("scale=", "scale=1 + "), True),
        ("blur", BLUR + "\n# a comment\n", False),
        ("tools", TOOLS.replace("x + 1", "x + 2"), True),
        ("__init__", "import mypack.other\n", True),
        ("other", "x = 2\n", False),
    ],
)
def test_its_code_and_what_it_imports_of_its_package_count(study, file, text, counts):
    before = provenance.code_hash(*blur().modules())
    study({file: text})
    assert (provenance.code_hash(*blur().modules()) != before) == counts


def test_what_it_imports_from_puriflow_counts(study):
    behind = set(provenance._behind(blur().modules()))
    assert {"mypack.blur", "mypack.tools", "puriflow.restorers.rescaling"} <= behind
    assert "puriflow.restorers.esrgan" not in behind
    study({"tools": "from puriflow import Defence\nWidth = int\n"})
    assert "puriflow.defence" in provenance._behind(blur().modules())


def test_versions_are_of_its_distribution_and_of_what_it_imports(study):
    assert "mydist" not in provenance.versions("mypack.blur")
    study.install("")
    study({"tools": TOOLS + "import scipy\nPACKAGE = 'no package'\n"})
    assert provenance.versions("mypack.blur").items() >= {("mydist", "1.5")}
    assert provenance.versions("mypack.blur").keys() >= {"scipy", "torch", "puriflow"}


def test_an_entry_point_is_a_kind(study):
    study.install("[puriflow.restorers]\nmy-blur = mypack.blur\n")
    part = part_of("restorer", "mine", {"kind": "my-blur", "sigma": 2})
    assert (part.module, part.build().scale) == ("mypack.blur", 2)
    assert "did you mean 'my-blur'" in refused(kind="my-blurr")
    assert "my-blur" not in registry.kinds("attacks")


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ("bicubic = mypack.blur", "puriflow.restorers.bicubic and the entry point of mypack.blur"),
        ("bicubic = mypack.gone", "puriflow.restorers.bicubic and the entry point of mypack.gone"),
        ("wrong = mypack.blurr", "did you mean 'mypack.blur'"),
        ("wrong = gone", "neither installed nor in the working folder"),
        ("wrong = ...", "the entry point wrong = '...' of mydist is broken"),
        ("wrong = mypack.other", "other.py defines no function `build`"),
        ("wrong = mypack.syntax", "syntax.py cannot be read as Python"),
        ("wrong = mypack.blur:Blur", "must name a module, whose `build` is called"),
    ],
)
def test_a_broken_entry_point_is_told_who_asks_for_it(study, points, says):
    study({"syntax": "def build(\n"})
    study.install(f"[puriflow.restorers]\n{points}\nfine = mypack.blur:build\n")
    assert part_of("restorer", "x", {"kind": "fine", "sigma": 2}).build().scale == 2
    assert part_of("restorer", "x", {"kind": "wavelet"}).kind == "wavelet"
    kind = points.partition(" ")[0]
    line = refused(kind=kind)
    assert line.startswith(f"config restorers.mine: kind {kind!r}: ")
    assert says in line


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("mypack.other", "other.py defines no function `build`, whose arguments are its options"),
        (
            "mypack.blurr",
            "unknown module of mypack 'mypack.blurr': did you mean 'mypack.blur'? "
            "known are mypack.blur, mypack.open, mypack.other, mypack.syntax, mypack.tools",
        ),
        ("mypak.blur", "neither installed nor in the working folder) 'mypak.blur': did you mean "),
        ("mypack.syntax", "syntax.py cannot be read as Python: "),
        ("mypack.open", "must take its options by name, each one by itself"),
        ("mypack..blur", "unknown module"),
        ("../mypack.blur", "unknown module"),
        (".blur", "unknown module"),
    ],
)
def test_a_module_that_is_no_part_is_one_line(study, kind, says):
    study({"__init__": "", "syntax": "def build(:\n", "open": "def build(**options): ...\n"})
    line = refused(kind=kind)
    assert line.startswith(f"config restorers.mine: kind {kind!r}: ")
    assert says in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def build():\n    return 1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("import no_such\ndef build(): ...\n", "ModuleNotFoundError: No module named 'no_such' ("),
        ("def build(*, x: 'Gone' = 1): ...\n", "NameError: name 'Gone' is not defined"),
        ("def build():\n    raise KeyError\n", "KeyError ("),
        ("def build():\n    raise ValueError('odd')\n", "config restorers.mine: odd"),
        ("def build(): ...\n", "`build` of mypack.wrong returns nothing"),
    ],
)
def test_whatever_a_part_raises_while_it_is_built_is_one_line(study, text, says):
    study({"wrong": text})
    line = refused(kind="mypack.wrong")
    assert line.startswith("config restorers.mine: ")
    assert says in line
    if says.endswith("("):
        assert f"wrong.py, line {len(text.splitlines()) if 'import' not in text else 1})" in line


def test_it_says_what_it_costs_and_what_trains_it(study):
    from puriflow.runtime import evaluations, optimises
    from puriflow.training.runs import trainer_of

    plain = "def build(*, network, n_iter=3):\n    pass\n"
    costs = "STEPS = 5\nEVALUATIONS_A_STEP = 2\n"
    study({"plain": plain, "costs": costs + plain, "steep": "OPTIMISES = True\n" + plain})
    study({"other": 'STEPS, EVALUATIONS_A_STEP = "a", "b"\nSTRIDE = 0.5\nSTEPS = "many"\n' + plain})

    net = {"kind": "edm", "weights": None}

    def counted(kind):
        part = part_of("purifier", "mine", {"kind": f"mypack.{kind}", "network": net})
        return evaluations(part), optimises(part)

    assert [counted(kind) for kind in ("plain", "costs", "steep", "other")] == [
        (3, False),
        (10, False),
        (6, True),
        (3, False),
    ]
    study({"blur": f'TRAINED_BY = "mypack.lessons"\n{BLUR}'})
    with pytest.raises(UserError, match=r"unknown module of mypack 'mypack\.lessons'"):
        trainer_of(blur())
    study({"lessons": "TRAINER = 3\n"})
    with pytest.raises(UserError, match=r"mypack\.lessons, by which mypack\.blur is trained, has"):
        trainer_of(blur())
    study({"taught": "from puriflow.training.pixels import TRAINER\n"})
    study({"blur": f'TRAINED_BY = "mypack.taught"\n{BLUR}'})
    assert trainer_of(blur()).recipe.__name__ == "Recipe"
