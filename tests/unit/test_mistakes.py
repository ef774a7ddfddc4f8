"""Mistakes on the command line: one line, exit status 2, and nothing computed before."""

import sys

import pandas as pd
import pytest

from puriflow.cli import main
from puriflow.results import measuring, timing
from puriflow.results.claims import COLUMNS
from puriflow.results.csvs import TABLE, read_csv

TABLE4, TABLE9 = "config/tables/table4.yaml", "config/timings/table9-top.yaml"


@pytest.fixture
def command(monkeypatch, capsys, repository):
    """Runs `puriflow` where the configuration is; returns its status and all that it said."""
    monkeypatch.chdir(repository)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["puriflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out + said.err

    return run


@pytest.fixture
def refused(command):
    """Runs a command that must be refused in one line; returns the line."""

    def run(*arguments):
        status, said = command(*arguments)
        assert status == 2
        assert len(said.splitlines()) == 1, said
        return said

    return run


def times_to(file):
    """Where `puriflow timing` writes."""
    return ("--out", file, "--measures", file.with_name("m.csv"))


# Roles as JSON


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("[]", "--roles is [], but must be a JSON object"),
        ("{", "--roles is not JSON"),
        ("{}", "--roles has no 'dataset imagenet', only nothing"),
        ('{"dataset imagenet": 5}', "--roles says 5 of 'dataset imagenet'"),
        ('{"dataset imagenet": {"note": ""}}', "--roles has no 'unavailable', only note"),
    ],
)
def test_roles_that_are_none_are_refused(refused, tmp_path, roles, message):
    given = ("--roles", roles, "--gpus", 0, *times_to(tmp_path / "t.csv"))
    assert message in refused("timing", TABLE9, *given)


def test_a_specification_that_is_none_is_refused(refused, four_images, tmp_path):
    given = ("--restorer", "edsr-x2", "--gpus", 0, "--out", tmp_path / "out")
    said = refused("restore", four_images.folder, *given, "--spec", "5")
    assert "--spec of restorers.edsr-x2 is 5, but must be a JSON object" in said


# Where results go


def test_folders_of_results_are_made_before_anything_is_computed(command, monkeypatch, tmp_path):
    there = []
    monkeypatch.setattr(
        timing, "write_times", lambda *given: there.append(given[3].parent.is_dir())
    )
    monkeypatch.setattr(
        measuring,
        "write_table",
        lambda *given: there.extend(file.parent.is_dir() for file in given[3:]),
    )
    assert command("timing", TABLE9, "--gpus", 0, *times_to(tmp_path / "a" / "t.csv"))[0] == 0
    folders = ("--out", tmp_path / "b" / "t.csv", "--measures", tmp_path / "c" / "m.csv")
    assert command("table", TABLE4, *folders)[0] == 0
    assert there == [True] * 3


def test_a_result_that_cannot_be_written_is_refused_before(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "write_times", lambda *_: pytest.fail("it computes"))
    (tmp_path / "file").write_text("precious")
    in_a_file = tmp_path / "file" / "t.csv"
    assert "file cannot be made: File exists" in refused("timing", TABLE9, *times_to(in_a_file))
    assert "is a folder: name a file" in refused("timing", TABLE9, *times_to(tmp_path))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_picture_of_another_kind_is_refused_before(refused, tmp_path):
    file, out = table_csv(tmp_path / "c.csv"), tmp_path / "new" / "c.xyz"
    assert "c.xyz: must end in .png or .svg" in refused("plot", file, TABLE4, "--out", out)
    assert not out.parent.exists()


# CSVs that are none


def table_csv(file, **more):
    """A table's CSV of one row, whose method is called 50."""
    pd.DataFrame([dict.fromkeys(TABLE) | {"method": "50", **more}]).to_csv(file, index=False)
    return file


def write_claims(folder, columns=COLUMNS):
    """An empty CSV of claims, as of a table that the paper says nothing about."""
    (folder / "claims").mkdir()
    (folder / "claims" / "table4.csv").write_text(",".join(columns) + "\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "c.csv: No such file or directory; build it first"),
        ("", "c.csv: No columns to parse from file"),
        ("a,b\n1,2\n", "c.csv: no column method, type, n,"),
        ("a,b\n1,2,3\n1,2,3,4,5\n", "c.csv: Error tokenizing data"),
        (",".join(TABLE) + "\nm,t,many,,,,,,,,,\n", "c.csv: could not convert string to float"),
    ],
)
def test_a_csv_that_is_no_table_s_is_refused(refused, tmp_path, content, message):
    file = tmp_path / "c.csv"
    if content is not None:
        file.write_text(content)
    assert message in refused("plot", file, TABLE4, "--out", tmp_path / "c.png")
    if content is not None:
        file.rename(tmp_path / "table4.csv")
    write_claims(tmp_path)
    said = refused("summary", TABLE4, "--results", tmp_path, "--out", tmp_path / "s.md")
    assert message.replace("c.csv", "table4.csv") in said
    assert not (tmp_path / "s.md").exists()


def test_a_csv_of_claims_that_is_none_is_refused(refused, tmp_path):
    table_csv(tmp_path / "table4.csv")
    write_claims(tmp_path, "ab")
    said = refused("summary", TABLE4, "--results", tmp_path, "--out", tmp_path / "s.md")
    assert "claims/table4.csv: no column about, section" in said


def test_methods_that_look_like_numbers_stay_text(command, tmp_path):
    file = table_csv(tmp_path / "table4.csv", n=6)
    write_claims(tmp_path)
    assert read_csv(file, TABLE)["method"].tolist() == ["50"]
    status, said = command("summary", TABLE4, "--results", tmp_path, "--out", tmp_path / "s.md")
    assert status == 0, said
    assert "| 50 |" in (tmp_path / "s.md").read_text()
    assert command("plot", file, TABLE4, "--out", tmp_path / "new" / "c.png")[0] == 0


def test_what_is_read_of_a_table_s_csv_is_in_it():
    assert set(TABLE) <= set(measuring.COLUMNS)
