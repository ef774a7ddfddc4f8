"""Mistakes on the command line: one line, exit status 2, and nothing computed before."""

import sys
from pathlib import Path

import pytest

from puriflow.cli import main
from puriflow.results import table, timing
from puriflow.results.claims import COLUMNS as CLAIMS
from puriflow.results.columns import read_csv, write_csv
from puriflow.results.table import COLUMNS

TABLE4, TABLE9 = "config/tables/table4.yaml", "config/timings/table9-top.yaml"
PAGE = ("config/claims.yaml", "--page", "table4")


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


# Where results go


@pytest.mark.parametrize(
    ("file", "kind"), [(TABLE4, table.Table), (TABLE9, timing.Timing)], ids=["table", "timing"]
)
def test_folders_of_results_are_made_before_anything_is_computed(
    command, monkeypatch, tmp_path, file, kind
):
    there = []
    monkeypatch.setattr(
        kind,
        "write",
        lambda result, track, files, *_: there.extend(f.parent.is_dir() for f in files.values()),
    )
    status, said = command("result", file, "--gpus", 0, "--results", tmp_path / "a")
    assert status == 0, said
    assert there == [True] * len(kind.outputs("t"))
    written = kind.outputs(Path(file).stem).values()
    assert said.split() == [str(tmp_path / "a" / path) for path in written]


@pytest.mark.parametrize("in_the_way", ["file", "folder"])
def test_a_result_that_cannot_be_written_is_refused_before(
    refused, monkeypatch, tmp_path, in_the_way
):
    monkeypatch.setattr(timing.Timing, "write", lambda *_: pytest.fail("it computes"))
    if in_the_way == "file":
        (tmp_path / "measures").write_text("precious")
        message = "measures cannot be made: File exists"
    else:
        (tmp_path / "table9-top.csv").mkdir()
        message = "table9-top.csv is a folder, but must be a file"
    assert message in refused("result", TABLE9, "--gpus", 0, "--results", tmp_path)
    if in_the_way == "file":
        assert (tmp_path / "measures").read_text() == "precious"


def test_a_file_that_is_no_result_is_refused(refused, tmp_path):
    file = tmp_path / "tabels" / "table4.yaml"
    assert "unknown folder of results 'tabels': did you mean 'tables'" in refused("result", file)
    file = tmp_path / "tables" / "table4.yaml"
    assert "tables/table4.yaml: No such file" in refused("result", file)


# CSVs that are none


def table_csv(folder, **more):
    """A table's CSV of one row, whose method is called 50."""
    file = folder / "table4.csv"
    write_csv([{"method": "50", **more}], COLUMNS, file)
    return file


def claims_csv(folder, columns=CLAIMS):
    """An empty CSV of claims, as of a table that the paper says nothing about."""
    (folder / "claims").mkdir()
    (folder / "claims" / "table4.csv").write_text(",".join(columns) + "\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "table4.csv: No such file or directory; build it first"),
        ("", "table4.csv: No columns to parse from file"),
        ("a,b\n1,2\n", "table4.csv: no column method, type, dataset,"),
        ("a,b\n1,2,3\n1,2,3,4,5\n", "table4.csv: Error tokenizing data"),
        (
            ",".join(COLUMNS) + f"\n{'m,' * 8}many{',' * (len(COLUMNS) - 9)}\n",
            "table4.csv: could not convert string to float",
        ),
    ],
)
def test_a_csv_that_is_no_table_s_is_refused(refused, tmp_path, content, message):
    if content is not None:
        (tmp_path / "table4.csv").write_text(content)
    claims_csv(tmp_path)
    assert message in refused("result", *PAGE, "--results", tmp_path)
    assert not (tmp_path / "pages").exists()


def test_a_csv_of_claims_that_is_none_is_refused(refused, tmp_path):
    table_csv(tmp_path)
    claims_csv(tmp_path, "ab")
    said = refused("result", *PAGE, "--results", tmp_path)
    assert "claims/table4.csv: no column about, section" in said


def test_methods_that_look_like_numbers_stay_text(command, tmp_path):
    file = table_csv(tmp_path, n=6)
    claims_csv(tmp_path)
    assert read_csv(file, COLUMNS)["method"].tolist() == ["50"]
    status, said = command("result", *PAGE, "--results", tmp_path)
    assert status == 0, said
    assert "<td>50</td>" in (tmp_path / "pages" / "table4.html").read_text()


IMAGES = ("stage", "images", "imagenet", "--out", "no/such/folder")
PARTS = ("--purifier", "vpsde-t10", "--classifier", "resnet50")
EVALUATE = ("stage", "evaluate", "no/such/store", "--out", "no/such/folder", *PARTS)
TRAIN = ("train", "restorers", "edsr-x2", "--images", "no/such/folder", "--out", "no/such/folder")


@pytest.mark.parametrize(
    "given",
    [
        (*IMAGES, "--subset-seed", "-1"),
        (*IMAGES, "--subset-seed", str(2**32)),
        (*EVALUATE, "--n-draws", "999999999999"),
        (*EVALUATE, "--n-draws", "2", "--seed", str(2**32)),
        (*EVALUATE, "--n-draws", "2", "--seed", "-1"),
        (*TRAIN, "--held-out", "-1"),
    ],
    ids=" ".join,
)
def test_numbers_of_options_have_bounds(command, given):
    status, said = command(*given)
    assert status == 2
    assert f"Invalid value for '{given[-2]}'" in said


@pytest.mark.parametrize(
    "shard", ["0-of-2-of-3", " 0-of-2 ", "0_0-of-2", f"0-of-{'9' * 5000}", "0"]
)
def test_a_shard_is_two_plain_numbers(refused, shard):
    assert "is not of the form 0-of-1" in refused(*IMAGES, "--shard", shard)
