"""Files that other programs read: workflows, forms of issues, hooks, the container's recipe."""

import shlex
import subprocess

import pytest
import yaml

SCHEMAS = {
    ".github/workflows": ("*.yml", "vendor.github-workflows"),
    ".github/ISSUE_TEMPLATE": ("[!c]*.yml", "vendor.github-issue-forms"),
    ".github/ISSUE_TEMPLATE/": ("config.yml", "vendor.github-issue-config"),
    ".": ("CITATION.cff", "vendor.citation-file-format"),
}
FAULTS = {
    ".github/workflows": "on: push\njobs: {a: {runs-on: x, step: []}}\n",
    ".github/ISSUE_TEMPLATE": "name: a\ndescription: b\nbody: [{type: textbox}]\n",
    ".github/ISSUE_TEMPLATE/": "blank_issues: true\n",
    ".": "cff-version: 1.2.0\n",
}


@pytest.fixture
def beside(repository):
    """Runs a program of the environment of tests/beside.txt; its status and what it said."""

    def run(name, *arguments):
        program = repository / ".venv" / "beside" / "bin" / name
        if not program.is_file():
            pytest.skip(f"needs {program}, which `make test` makes of tests/beside.txt")
        ended = subprocess.run(
            [program, *arguments], cwd=repository, capture_output=True, text=True
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


@pytest.mark.parametrize("folder", SCHEMAS)
def test_files_are_of_their_schemas(repository, beside, tmp_path, folder):
    pattern, schema = SCHEMAS[folder]
    files = sorted((repository / folder).glob(pattern))
    assert files
    status, said = beside("check-jsonschema", "--builtin-schema", schema, *files)
    assert status == 0, said
    fault = tmp_path / "fault.yaml"
    fault.write_text(FAULTS[folder])
    assert beside("check-jsonschema", "--builtin-schema", schema, fault)[0] == 1


def test_the_recipe_of_the_container_is_linted(repository, beside, tmp_path):
    status, said = beside("hadolint", "Containerfile")
    assert status == 0, said
    (tmp_path / "Containerfile").write_text("FROM python\nRUN apt-get install git\n")
    assert beside("hadolint", tmp_path / "Containerfile")[0] == 1


def test_a_container_takes_no_environment_and_no_results_along(repository):
    ignored = (repository / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", ".snakemake", "results"} <= set(ignored)


def test_hooks_are_the_linters_of_the_tests(repository, beside):
    status, said = beside("pre-commit", "validate-config")
    assert status == 0, said
    raw = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    hooks = {tuple(shlex.split(h["entry"])[:2]) for repo in raw["repos"] for h in repo["hooks"]}
    style = (repository / "tests" / "workflow" / "test_style.py").read_text()
    for program, *_ in hooks:
        assert f'"{program} ' in style
    assert {program for program, *_ in hooks} == {"ruff", "snakefmt", "snakemake", "pyrefly"}
