"""A Slurm for these tests alone, and the tiny track in two shards, also of a local run."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import slurm
from runs import SHARDS, Cluster, bytes_of
from tiny_track import Project, make_project


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """The Slurm."""
    if (why := slurm.missing()) is not None:
        pytest.skip(why)
    up = slurm.Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        up.__enter__()
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:  # as some containers do
        pytest.skip(f"Slurm does not start here: {error}")
    yield up
    up.__exit__()


@pytest.fixture(scope="session")
def sharded(repository, tiny_adm) -> Callable[[Path], Project]:
    """A function that puts the tiny track of two shards into a folder."""

    def made(folder: Path) -> Project:
        project = make_project(folder, repository, tiny_adm)

        def change(config):
            config["datasets"]["imagenet"]["shards"] = len(SHARDS)
            config["attacks"]["pgd-linf4"]["n_iter"] = 8  # seconds in which a job is caught

        project.edit(change)
        return project

    return made


@pytest.fixture(scope="session")
def local(sharded, tmp_path_factory) -> Callable[[list[str]], dict[str, bytes]]:
    """A function that says what a local run leaves for some targets."""
    project = sharded(tmp_path_factory.mktemp("local"))

    def made(targets: list[str]) -> dict[str, bytes]:
        project.snakemake(*targets, "--cores", "2")
        stages = ("results/images/", *(target[: target.index("/", 8) + 1] for target in targets))
        return {name: of for name, of in bytes_of(project).items() if name.startswith(stages)}

    return made


@pytest.fixture
def cluster(node, sharded, tmp_path):
    """A function that gives a cluster by a profile, which is over when the test is."""
    opened = []

    def by(profile: str, *options: str) -> Cluster:
        opened.append(Cluster(node, sharded(tmp_path), profile, *options))
        return opened[-1]

    yield by
    for one in opened:
        one.close()
