"""The workflow from another folder, of a tag of a repository, and as a module of another one."""

import os
import shutil
import subprocess

import pytest
import yaml
from snakemake.api import resolve_snakefile

from puriflow.shipped import shipped

TARGET = "results/table8-left.csv"
MODULE = """
configfile: "config/config.yaml"

module puriflow:
    snakefile: gitfile({folder!r}, path="workflow/Snakefile", tag="v1")
    config: config["purification"]

use rule * from puriflow as puriflow_*

import os
assert os.path.isfile(os.environ["DOCUTILSCONFIG"])  # of the report's captions
"""
SECTION = {
    "extends": "config/config.yaml",
    "track": "of-a-module",
    "datasets": {"imagenet": {"subset": 3}},
}


@pytest.fixture
def plan(tmp_path):
    """A function that dry-runs the target in an empty folder, `here`, which begins empty."""
    (tmp_path / "here").mkdir()

    def planned(*arguments: str) -> str:
        ended = subprocess.run(
            ["snakemake", "--cores", "1", "--dry-run", TARGET, *arguments],
            cwd=tmp_path / "here",
            env=os.environ | {"PURIFLOW_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout.split("Job stats:")[1]

    return planned


@pytest.fixture
def tagged(tmp_path, repository) -> str:
    """A repository that has nothing but the workflow, with a tag."""
    folder = tmp_path / "repository"
    shutil.copytree(repository / "workflow", folder / "workflow")
    identity = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        [*identity, "commit", "--quiet", "-m", "1"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    shutil.rmtree(folder / "workflow")  # what git has is what is read
    return str(folder)


def test_a_snakefile_a_folder_and_a_track_from_anywhere(plan, tmp_path, repository):
    (tmp_path / "far" / "nets").mkdir(parents=True)
    shutil.copy(shipped("resources/esrgan-x2.safetensors"), tmp_path / "far" / "nets")
    entry = {"weights": "nets/esrgan-x2.safetensors"}
    raw = {"extends": "config/config.yaml", "track": "far", "restorers": {"esrgan-x2": entry}}
    (tmp_path / "far" / "mine.yaml").write_text(yaml.safe_dump(raw))
    snakefile, work = repository / "workflow" / "Snakefile", tmp_path / "work"
    work.mkdir()
    arguments = ("--directory", "../work", "--configfile", "../far/mine.yaml")
    assert "build_table" in plan("--snakefile", str(snakefile), *arguments)
    (track,) = (work / ".snakemake" / "puriflow").glob("far-*.yaml")
    entries = yaml.safe_load(track.read_text())["restorers"]
    assert entries["esrgan-x2"]["weights"] == str(tmp_path / "far" / "nets/esrgan-x2.safetensors")
    assert entries["edsr-x2"]["weights"] == str(shipped("resources/edsr-x2.safetensors"))
    assert list((tmp_path / "here").iterdir()) == []


def test_a_module_of_a_tag_takes_its_section_as_the_track(plan, tmp_path, tagged):
    """The outer workflow's own config/config.yaml is no track, and is not read as one."""
    (tmp_path / "here" / "config").mkdir()
    outer = tmp_path / "here" / "config" / "config.yaml"
    outer.write_text(yaml.safe_dump({"mine": 1, "purification": SECTION}))
    (tmp_path / "here" / "Snakefile").write_text(MODULE.format(folder=tagged))
    assert "puriflow_build_table" in plan()
    (track,) = (tmp_path / "here" / ".snakemake" / "puriflow").glob("of-a-module-*.yaml")
    found = yaml.safe_load(track.read_text())
    assert found["datasets"]["imagenet"]["subset"] == 3
    assert found["datasets"]["imagenet"]["kind"] == "foolbox"


@pytest.mark.skipif(
    not isinstance(resolve_snakefile("gh:owner/repository@v1"), str),
    reason="this Snakemake takes a Snakefile from this machine's folders alone",
)
def test_a_snakefile_of_a_tag(plan, tagged):
    assert "build_table" in plan("--snakefile", f"git+file://{tagged}/workflow/Snakefile@v1")
