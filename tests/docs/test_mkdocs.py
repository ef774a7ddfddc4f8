"""The documentation's site is built without a warning, with every kind, option and command."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from blocks import REPOSITORY

from puriflow.cli import app
from puriflow.metrics.accuracy import wilson
from puriflow.registry import FAMILIES, kinds
from puriflow.site import write_site

NOBODY = "0" * 64
NONE_RIGHT = {"first": {"share": 0.0, "interval": wilson(0, 1)}}
WRONG = {"first": 0.0}
# Of one image that a defence has never right.
RECORD = {
    "schema": 1,
    "defence": {
        "name": "theirs",
        "random": False,
        "parameters": 1,
        "network_evaluations": 0,
        "sha256": NOBODY,
    },
    "attack": "PGD",
    "cut": "",
    "norm": "Linf",
    "eps": 8 / 255,
    "n": 1,
    "n_draws": 1,
    "seed": 0,
    "standard": NONE_RIGHT,
    "robust": NONE_RIGHT,
    "attacks": [
        {
            "name": "PGD",
            "through": "the defence",
            "options": {"kind": "PGD", "gradient": "full"},
            "robust": NONE_RIGHT,
            "passes": 1,
            "seconds": 1,
        }
    ],
    "images": [{"label": 0, "standard": WRONG, "robust": WRONG, "attack": "PGD"}],
    "audit": "none",
    "made_by": {
        "puriflow": "0",
        "code": NOBODY,
        "versions": {},
        "images": NOBODY,
        "labels": NOBODY,
        "machine": {},
    },
}
MKDOCS = REPOSITORY / ".venv" / "beside" / "bin" / "mkdocs"
PAGES = ("tutorial", "reading-a-number", "reviewers", "results", "benchmark", "reference/api")


def build(folder: Path, **more: str) -> str:
    """Build the site; what was said of it."""
    if not MKDOCS.is_file():
        pytest.skip(f"needs {MKDOCS}, which `make test` makes of tests/beside.txt")
    variables = {"NO_MKDOCS_2_WARNING": "1", "PURIFLOW_PYTHON": sys.executable, **more}
    ended = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Path:
    """The page of one record, as `puriflow site` writes it."""
    pytest.importorskip("altair", reason="needs Altair, which 'puriflow[dev]' brings")
    folder = tmp_path_factory.mktemp("board")
    (folder / "record.json").write_text(json.dumps(RECORD))
    write_site(folder / "page", [folder / "record.json"])
    return folder / "page"


@pytest.fixture(scope="module")
def site(tmp_path_factory, board) -> Path:
    folder = tmp_path_factory.mktemp("site")
    said = build(folder, LEADERBOARD=str(board))
    assert "WARNING" not in said
    return folder


def text_of(page: Path) -> str:
    """What a page shows."""
    shown = page.read_text().partition("<article")[2].partition("</article>")[0]
    return html.unescape(re.sub(r"<[^>]+>", "", shown))


def test_the_site_has_its_pages(site):
    assert "Two commands" in text_of(site / "index.html")
    for page in PAGES:
        assert text_of(site / "docs" / page / "index.html").strip()


def test_every_kind_is_there_with_every_option(site):
    for family in FAMILIES:
        page = text_of(site / "docs" / "reference" / family.section / "index.html")
        for kind in (kind for kind in kinds(family.section).values() if kind.is_own):
            assert re.search(rf"^{re.escape(kind.name)}\b", page, re.MULTILINE), kind.name
            for option in kind.options:
                assert re.search(rf"^\s*{option}$", page, re.MULTILINE), (kind.name, option)


def test_options_have_their_values_defaults_and_meanings(site):
    page = text_of(site / "docs" / "reference" / "attacks" / "index.html")
    row = re.search(r"^\s*n_iter\n(.*)\n(.*)\n(.*)$", page, re.MULTILINE)
    assert row[1].strip() == "a whole number from 1 to 100000"
    pgd = page[page.index("PGD (Madry") :]
    assert "draws of the victim over which a gradient is averaged" in pgd


def test_every_command_is_there_with_every_option(site):
    page = text_of(site / "docs" / "reference" / "commands" / "index.html")
    below = typer.main.get_command(app).commands
    assert "purify" in below
    for name, command in below.items():
        assert f"puriflow {name}" in page
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert option in page, (name, option)


def test_functions_are_there_with_their_arguments(site):
    page = text_of(site / "docs" / "reference" / "api" / "index.html")
    for said in ("Restore and purify images, of any size", "restorer", "UserError", "seed"):
        assert said in page


def test_the_results_lead_to_the_leaderboard_if_there_is_one(site, board, tmp_path):
    results = site / "docs" / "results" / "index.html"
    (link,) = re.findall(r'href="([^"]+/leaderboard/)"', results.read_text())
    linked = results.parent / link / "index.html"
    assert linked.read_text() == (board / "index.html").read_text()
    assert "theirs" in linked.read_text()
    build(tmp_path / "without")
    without = tmp_path / "without" / "docs" / "results" / "index.html"
    assert "/leaderboard/" not in without.read_text()


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder for `make site`, whose environment says what it is asked, and does nothing."""
    for name in ("bin", "beside/bin"):
        (tmp_path / ".venv" / name).mkdir(parents=True)
    for name in ("pyproject.toml", "tests/beside.txt", "docs/site/requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("bin/puriflow", "beside/bin/mkdocs", "beside/bin/python"):
        file = tmp_path / ".venv" / name
        said = 'echo "$(basename $0) $* with ${LEADERBOARD:-none}"'
        file.write_text(f"#!/bin/sh\n{said}\nexit ${{{file.name}_ends:-0}}\n")
        file.chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    return tmp_path


def made(project: Path, **more: str) -> list[str]:
    """What `make site` says and asks."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "LEADER"))}
    command = ["make", "--no-print-directory", "site"]
    given = {"cwd": project, "env": variables | more, "text": True, "stdout": subprocess.PIPE}
    return subprocess.run(command, check=True, **given).stdout.splitlines()[1:]


def test_make_site_has_a_leaderboard_if_tables_are_built(project):
    assert made(project) == [
        "== without a leaderboard: no table is built in results/ (make table7)",
        "mkdocs build --strict with none",
    ]
    (project / "results").mkdir()
    (project / "results" / "table7.csv").touch()
    assert made(project) == [
        "puriflow site .venv/leaderboard with none",
        "mkdocs build --strict with .venv/leaderboard",
    ]
    assert made(project, puriflow_ends="2") == [
        "puriflow site .venv/leaderboard with none",
        "== without a leaderboard, for the reason above",
        "mkdocs build --strict with none",
    ]
    assert made(project, LEADERBOARD="mine") == [
        "== with the leaderboard of mine",
        "mkdocs build --strict with mine",
    ]


def test_every_page_is_in_the_navigation():
    """Only cards beside weights are found by their links alone."""
    config = (REPOSITORY / "mkdocs.yml").read_text()
    listed = set(re.findall(r"docs/[\w-]+\.md", config))
    there = {f"docs/{file.name}" for file in (REPOSITORY / "docs").glob("*.md")}
    assert listed == there | {"docs/own-images.md"}  # of the notebook


def test_the_notebook_is_a_page_with_its_pictures(site):
    page = site / "docs" / "own-images" / "index.html"
    assert "dog.png: 512x512; 9 tiles of 192x192" in text_of(page)
    assert "data:image/jpeg;base64," in page.read_text()


@pytest.mark.parametrize("page", ["docs/reviewers.md"])
def test_files_that_a_page_says_to_run_are_there(page):
    commands = re.findall(r"`(pytest [^`]+)`", (REPOSITORY / page).read_text())
    assert commands
    for command in commands:
        for file in command.split()[1:]:
            assert file.startswith("--") or (REPOSITORY / file).exists(), command


def test_nothing_is_loaded_from_elsewhere(site):
    """A site that is read offline, or in a train, looks the same."""
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text()
        )
        assert loaded == [], page
