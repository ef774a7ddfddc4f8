"""What jobs run, from their logs and stores alone."""

import os
import time

import pytest
from typer.testing import CliRunner

from puriflow.cli import app
from puriflow.progress import Progress
from puriflow.running import SILENT, jobs_of

NAME = "purify/imagenet/none/none/none/vpsde-t90/0-of-1"
BEGUN = "puriflow: purify of 8 images on node3, cuda:0\n"


@pytest.fixture
def job(tmp_path):
    """Writes the log of a job, so many seconds ago, and gives what is read of it."""

    def read(text, ago=0.0, name=NAME):
        log = tmp_path / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
        os.utime(log, (time.time() - ago,) * 2)
        (found,) = jobs_of(tmp_path / "logs", tmp_path / "results")
        return found

    return read


def test_progress_is_read_as_it_is_written(job, capsys, monkeypatch):
    monkeypatch.setattr("puriflow.progress.time.monotonic", iter((0.0, 20.0)).__next__)
    with Progress("purify", total=8) as progress:
        progress.advance(2)
    found = job(BEGUN + capsys.readouterr().err)
    assert (found.state, found.where) == ("running", "node3, cuda:0")
    assert (found.done, found.total, found.unit) == (2, 8, "images")
    assert found.left == pytest.approx(60)


def test_before_the_first_line_of_progress_the_batches_of_the_store_count(job, tmp_path):
    work = tmp_path / "results" / NAME.replace("0-of-1", ".0-of-1.work") / "0123456789abcdef"
    work.mkdir(parents=True)
    (work / "00000000-00000004.batch").touch()
    found = job(BEGUN, ago=SILENT + 60)
    assert (found.done, found.total, found.left) == (4, 8, None)
    assert found.state == "running"  # it kept a batch just now, though its log says nothing


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (BEGUN + "puriflow: error: store is damaged\n", "failed"),
        ("Traceback (most recent call last):\nRuntimeError: no\n", "failed"),
        ("Traceback (most recent call last):\ntorch.cuda.OutOfMemoryError: no\n", "failed"),
        (
            "Traceback (most recent call last):\n  x\nRuntimeError: CUDA error\nCompile with -g.\n",
            "failed",
        ),
        ("/bin/bash: line 1: puriflow: command not found\n", "failed"),
        ("Exception ignored in: <function f>\n", "silent"),
        (
            "Traceback (most recent call last):\nOSError: no\nedm-cifar10: 3/10 steps, 1 steps/s, "
            "0:07 left\n",
            "silent",
        ),
        (BEGUN, "silent"),
    ],
)
def test_what_failed_and_what_is_silent(job, text, state):
    assert job(text, ago=SILENT + 60).state == state


def test_progress_of_any_name_is_read(job):
    found = job("Figure 7 (left): 3/20 lines, 0.5 lines/s, 0:34 left\n")
    assert (found.done, found.total, found.unit, found.left) == (3, 20, "lines", 34)


def test_progress_without_a_rate_is_read(job):
    found = job("purify: 3/20 tiles, 0 tiles/s, ? left\n")
    assert (found.done, found.total, found.left) == (3, 20, None)


def test_what_ended_is_done_until_it_is_begun_again(job, tmp_path):
    record = tmp_path / "results" / "benchmarks" / f"{NAME}.jsonl"
    record.parent.mkdir(parents=True)
    record.touch()
    assert job(BEGUN, ago=60).state == "done"
    assert job(BEGUN, ago=-60).state == "running"


def test_a_failed_job_is_said_with_its_last_line(job, tmp_path):
    job(f"{BEGUN}puriflow: error: no room\n")
    options = ("--logs", str(tmp_path / "logs"), "--results", str(tmp_path / "results"))
    ended = CliRunner().invoke(app, ["status", *options])
    assert ended.exit_code == 1
    failed, counts = ended.stdout.splitlines()
    assert failed.startswith(f"failed   {NAME}")
    assert failed.endswith("puriflow: error: no room")
    assert counts == "0 done, 0 running, 0 silent, 1 failed"


def test_without_logs_it_says_where_to_run(tmp_path):
    ended = CliRunner().invoke(app, ["status", "--logs", str(tmp_path / "none")])
    assert "run this where snakemake runs" in str(ended.exception)
