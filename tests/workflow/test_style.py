"""The files are formatted, linted and typed."""

import subprocess

import pytest


@pytest.mark.parametrize(
    "command",
    [
        "ruff check .",
        "ruff format --check .",
        "snakefmt --check Snakefile workflow",
        "snakemake --lint",
        "pyrefly check",
    ],
)
def test_style(repository, command):
    ended = subprocess.run(command.split(), cwd=repository, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
