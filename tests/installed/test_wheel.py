"""The sdist, the wheel made of it, and what somebody has who installed that one alone.

The wheel is installed into an environment that sees the libraries of the tests, but not the
checkout; everything is run in folders that begin empty.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from puriflow.benchmarking.record import Benchmark

SHIPPED = ("config", "profiles", "resources", "workflow")
SOURCES = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "Snakefile")
SOURCES += ("config", "profiles", "puriflow", "pyproject.toml", "resources", "setup.py", "workflow")
PYTHON = """
import sys
from pathlib import Path
import numpy as np
import puriflow
from puriflow.config import default_track, load_config
images = np.full((8, 8, 3), 0.5, dtype=np.float32)
purified = puriflow.purify(images, restorer="esrgan-x2", purifier="vpsde-t10")
assert purified.shape == (8, 8, 3) and not np.array_equal(purified, images)
files = [weights.file for weights in load_config().weights() if weights.published is None]
assert files and all(file.is_file() for file in files)
print(*[Path(file).resolve() for file in (puriflow.__file__, default_track(), *files)], sep="\\n")
"""
TABLE = {
    "title": "a table of my own",
    "source": "tests",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "rows": [{"method": "undefended", "type": "none"}],
}


class Installed:
    """An environment in which the wheel is installed."""

    def __init__(self, folder: Path, wheel: Path):
        self.wheel, self.folder = wheel, folder
        venv.create(folder, with_pip=False)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / python / "site-packages"
        libraries = [path for path in sys.path if path.endswith("-packages")]
        (self.packages / "libraries.pth").write_text("\n".join(libraries))
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        self.run([*pip, "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)], folder)

    def run(self, command: list[str], folder: Path, *, status: int = 0) -> str:
        """Run a command in a folder; what it printed."""
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        variables["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{variables['PATH']}"
        ended = subprocess.run(
            command,
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert ended.returncode == status, ended.stdout
        return ended.stdout


def built(what: str, source: Path, out: Path) -> Path:
    """The sdist or the wheel of a source tree."""
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(out)!r})"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (file,) = out.glob({"sdist": "*.tar.gz", "wheel": "*.whl"}[what])
    return file


@pytest.fixture(scope="module")
def installed(tmp_path_factory, repository) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:  # the build writes beside them
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, source / name)
    sdist = built("sdist", source, folder)
    shutil.unpack_archive(sdist, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Installed(folder / "environment", built("wheel", unpacked, folder))


def sizes(folder: Path) -> dict[str, int]:
    """The files below a folder, with their sizes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in files
        if "__pycache__" not in file.parts and file.name[0] != "."
    }


def test_a_wheel_has_the_package_and_all_that_is_shipped(installed, repository):
    package = sizes(installed.packages / "puriflow")
    for name in SHIPPED:
        there = sizes(installed.packages / "puriflow" / "_shipped" / name)
        assert there == sizes(repository / name)
        package = {file: size for file, size in package.items() if f"_shipped/{name}/" not in file}
    assert package == sizes(repository / "puriflow")
    with zipfile.ZipFile(installed.wheel) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top.partition("-")[0] for top in tops} == {"puriflow"}


def test_images_are_purified_in_an_empty_folder(installed, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.jpg")
    chain = ["--restorer", "esrgan-x2", "--purifier", "vpsde-t10"]
    said = installed.run(["puriflow", "purify", "photo.jpg", *chain], tmp_path)
    assert f"track is PuriFlow's own: {installed.packages}" in said
    with Image.open(tmp_path / "purified" / "photo.png") as purified:
        assert purified.size == (8, 12)


def test_what_python_imports_is_the_installed_package(installed, tmp_path):
    said = installed.run(["python", "-c", PYTHON], tmp_path)
    files = said.splitlines()[-15:]
    assert all(file.startswith(f"{installed.packages.resolve()}/puriflow/") for file in files)
    assert list(tmp_path.iterdir()) == []


def test_a_student_comes_from_an_empty_folder_to_a_result_file(installed, tmp_path, repository):
    example = repository / "docs" / "example"
    said = installed.run(["bash", str(example / "story.sh"), str(example)], tmp_path)
    assert f"track is PuriFlow's own: {installed.packages}" in said
    for name in ("purified", "blurred"):
        assert (tmp_path / name / "photo.png").is_file()
    plain, blurred = (
        Benchmark.from_json(tmp_path / f"judged-{name}" / "benchmark.json")
        for name in ("plain", "blurred")
    )
    assert plain.standard["average"].share == blurred.standard["average"].share == 1
    assert plain.robust["average"].share < blurred.robust["average"].share
    assert blurred.defence.name == "Blur + Linear"
    assert "defence.name: Linear | Blur + Linear" in said.splitlines()
    assert r"\toprule" in said


def test_a_study_is_begun_and_runs(installed, tmp_path):
    study = tmp_path / "my-study"
    installed.run(["puriflow", "init", "my-study"], tmp_path)
    assert {file.name for file in study.iterdir()} == {"Snakefile", "config", "profiles"}
    (study / "config" / "tables" / "mine.yaml").write_text(yaml.safe_dump(TABLE))
    snakemake = ["python", "-m", "snakemake"]
    planned = installed.run(
        [*snakemake, "results/table7.csv", "results/mine.csv", "--dry-run"], study
    )
    assert "build_table            2" in planned
    images = "results/images/cifar10/0-of-1/manifest.json"
    installed.run([*snakemake, images, "--cores", "1"], study)
    assert (study / images).is_file()
    (track,) = (study / ".snakemake" / "puriflow").glob("study-*.yaml")
    sections = yaml.safe_load(track.read_text())
    weights = [e["weights"] for e in sections["restorers"].values() if "weights" in e]
    assert weights
    assert all(file.startswith(str(installed.packages)) for file in weights)


def test_a_folder_that_is_not_empty_stays_as_it_is(installed, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    said = installed.run(["puriflow", "init", "."], tmp_path, status=2)
    assert said == "puriflow: error: . is there, and is no empty folder: name a new one\n"
    said = installed.run(["puriflow", "init", "notes.txt"], tmp_path, status=2)
    assert said.startswith("puriflow: error: notes.txt is there")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
