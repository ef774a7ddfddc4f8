"""What Slurm would say of a job, as its commands say it; a real one is in tests/cluster."""

import pytest

from puriflow import cluster
from puriflow.cluster import Asked, check_slurm, minutes, reason
from puriflow.errors import UserError

ONE = {"gpu": 1, "mem_mb": 8000, "runtime": 60}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A function that puts a command of Slurm in place, which prints something and ends."""
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster.partitions.cache_clear()

    def put(name, said, status=0):
        stream = 2 if status else 1
        text = (
            f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho '{said}' >&{stream}\nexit {status}\n"
        )
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        return tmp_path / "asked"

    yield put
    cluster.partitions.cache_clear()


def check(**resources):
    check_slurm([Asked.of({**ONE, **resources})])


def test_each_kind_of_job_is_asked_about_once(commands):
    commands("sinfo", "cpu|1:00:00\ngpu*|2-00:00:00")
    asked = commands("sbatch", "")
    check_slurm([Asked.of(ONE), Asked.of(ONE), Asked.of({"mem_mb": 100, "runtime": "<TBD>"})])
    check(gpu_model="a100", slurm_partition="cpu,gpu", slurm_extra="--mail-user 'a b'")
    assert asked.read_text().splitlines()[1:] == [
        "--test-only --gpus=1 --mem=8000 --time=60 --wrap=true",
        "--test-only --mem=100 --wrap=true",
        "--test-only --partition=cpu,gpu --gpus=a100:1 --mem=8000 --time=60 --mail-user a b"
        " --wrap=true",
    ]


@pytest.mark.parametrize(
    ("resources", "line"),
    [
        (
            {"slurm_partition": "gpus"},
            "unknown partition of this Slurm 'gpus': did you mean 'gpu'?",
        ),
        ({"slurm_partition": "cpu", "runtime": 61}, "partition cpu gives a job 60 minutes"),
        ({"runtime": 2881}, "partition gpu gives a job 2880 minutes: one that asks for 2881"),
    ],
)
def test_what_slurm_has_not_is_one_line(commands, resources, line):
    commands("sinfo", "cpu|1:00:00\ngpu*|2-00:00:00")
    commands("sbatch", "")
    with pytest.raises(UserError) as error:
        check(**resources)
    assert line in str(error.value)


def test_what_slurm_refuses_is_said_in_its_words(commands):
    commands("sinfo", "gpu*|infinite")
    commands("sbatch", "sbatch: error: Invalid account or account/partition combination\nx", 1)
    with pytest.raises(
        UserError, match=r"--account=no --gpus=1 .*: Invalid account or account/part"
    ):
        check(slurm_account="no")


def test_a_slurm_that_does_not_answer_or_is_not_here_is_one_line(commands):
    with pytest.raises(UserError, match="no Slurm is here: sinfo: No such file"):
        check()
    commands("sinfo", "slurm_load_partitions: Unable to contact slurm controller", 1)
    with pytest.raises(
        UserError, match="Slurm does not answer: Unable to contact slurm controller"
    ):
        check()


def test_words_and_limits_of_slurm():
    assert (
        reason("allocation failure: Invalid feature specification\n")
        == "Invalid feature specification"
    )
    assert (
        reason("sbatch: error: invalid partition specified: x") == "invalid partition specified: x"
    )
    assert reason("") == "no reason"
    assert [minutes(limit) for limit in ("1-01:30:00", "30:00", "2:00:00")] == [1530, 30, 120]
    assert minutes("infinite") == float("inf")
