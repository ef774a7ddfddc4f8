"""The tiny track, built once for all tests and empty for each."""

import pytest
from tiny_track import Project, make_project


@pytest.fixture(scope="session")
def built(tmp_path_factory, repository, tiny_adm) -> Project:
    """The tiny track with everything built."""
    project = make_project(tmp_path_factory.mktemp("tiny"), repository, tiny_adm)
    project.snakemake("all")
    return project


@pytest.fixture
def empty(tmp_path, repository, tiny_adm) -> Project:
    """The tiny track with nothing built."""
    return make_project(tmp_path, repository, tiny_adm)
