"""What is said of versions in several places: they agree."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


@pytest.fixture(scope="module")
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def job(repository) -> dict:
    file = repository / ".github" / "workflows" / "tests.yml"
    return yaml.safe_load(file.read_text())["jobs"]["tests"]


@pytest.fixture(scope="module")
def matrix(job) -> dict:
    return job["strategy"]["matrix"]


def test_the_environment_of_rules_pins_all_that_the_package_needs(project, repository):
    raw = yaml.safe_load((repository / "workflow" / "envs" / "puriflow.yaml").read_text())
    pins = {pin.name: pin for pin in map(Requirement, raw["dependencies"][-1]["pip"])}
    needed = [*project["dependencies"], *project["optional-dependencies"]["robustbench"]]
    assert set(pins) == {"puriflow"} | {Requirement(one).name for one in needed}
    versions = {name: str(pin.specifier).removeprefix("==") for name, pin in pins.items()}
    assert versions["puriflow"] == project["version"]
    for one in map(Requirement, needed):
        assert one.specifier.contains(versions[one.name]), one.name


def test_every_python_that_is_said_to_do_is_tested(project, matrix):
    said = [c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c]
    assert said == matrix["python"]
    assert all(SpecifierSet(project["requires-python"]).contains(f"{one}.0") for one in said)


def test_a_browser_and_all_that_the_tests_need_are_there_on_github(job):
    """But for Slurm, whose tests need root."""
    runs = [step["run"].removeprefix("sudo ") for step in job["steps"] if "run" in step]
    assert runs.index("make browser") < runs.index("make test")


def test_the_lowest_snakemake_is_tested_and_the_workflow_asks_for_it(project, matrix, repository):
    (needed,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "snakemake")
    lowest = re.search(r">=([0-9.]+)", str(needed.specifier))[1]
    assert {extra["snakemake"] for extra in matrix["include"]} == {f"snakemake=={lowest}.*"}
    assert f'min_version("{lowest}")' in (repository / "workflow" / "Snakefile").read_text()


def test_the_catalog_of_workflows_is_told_what_it_asks_for(repository):
    raw = yaml.safe_load((repository / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(raw) == {"mandatory-flags", "software-stack-deployment"}
    assert set(raw["mandatory-flags"]) == {"desc", "flags"}
    assert raw["software-stack-deployment"]["conda"] is True
    for file in ("workflow/Snakefile", "config/README.md", "workflow/envs/puriflow.yaml"):
        assert (repository / file).is_file()
