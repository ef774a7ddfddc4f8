"""When a job has a mark, and when it counts."""

import os
from pathlib import Path

import pytest

from puriflow.missed import missed, planned

STORE, TABLE, PICTURE = "results/a/0-of-1/manifest.json", "results/t.csv", "results/t.png"


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """A store, and the table and picture that were made of it, in time order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/a/0-of-1/images.zarr").mkdir(parents=True)
    for time, file in enumerate((STORE, TABLE, PICTURE), 1):
        make(file, time)
    return tmp_path


def make(file, time):
    with open(file, "w"):
        os.utime(file, (time, time))


def marked(changed=False):
    """The mark of the table's job, if any, and whether it is newer than what was made."""
    marks = missed([TABLE, PICTURE], [STORE], lambda: changed)
    return [(mark, os.stat(mark).st_mtime > 10) for mark in marks]


MARK = Path(".snakemake/puriflow/missed/results/t.csv")
NEW, OLD = [(str(MARK), True)], [(str(MARK), False)]


def test_whole_there_is_none():
    assert marked() == marked() == []


@pytest.mark.parametrize("lost", [STORE, PICTURE, TABLE])
def test_it_counts_until_the_job_has_run_or_all_is_back(lost):
    os.rename(lost, "kept")
    assert marked() == marked() == NEW
    os.rename("kept", lost)
    assert marked() == []  # as Snakemake knew the job
    os.rename(lost, "kept")
    assert marked() == NEW
    os.rename("kept", lost)
    for file in (TABLE, PICTURE):
        make(file, 5)  # by the job, which knows the mark now
    assert marked()[0][0] == str(MARK)
    first = MARK.read_text()
    os.rename(lost, "kept")
    assert marked() == NEW
    assert MARK.read_text() != first  # Snakemake compares what small inputs hold
    os.rename("kept", lost)
    assert marked() == OLD


def test_a_job_takes_the_mark_as_the_plan_left_it():
    assert planned([TABLE, PICTURE]) == []
    os.rename(STORE, "kept")
    assert marked() == NEW
    os.rename("kept", STORE)
    assert planned([TABLE, PICTURE]) == [str(MARK)]
    assert marked() == []
    assert planned([TABLE, PICTURE]) == []


def test_a_store_without_arrays_is_not_there(made):
    (made / "results/a/0-of-1/images.zarr").rmdir()
    assert marked() == NEW


def test_other_data_counts():
    assert marked(changed=True) == NEW
    assert marked() == []


def test_of_what_was_never_made_nothing_is_missed():
    for file in (STORE, TABLE, PICTURE):
        os.unlink(file)
    assert marked(changed=True) == []
