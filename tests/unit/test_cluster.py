"""What Slurm would say of a job, as its commands say it; a real one is in tests/cluster."""

import pytest

from puriflow.cluster import check_slurm, gpus, minutes, reason
from puriflow.errors import UserError

NODES = """
cpu|1:00:00|256000+|(null)
gpu*|2-00:00:00|64000|gpu:a100:4(S:0-1)
"""
ONE = {"gpu": 1, "mem_mb": 8000, "runtime": 60}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A function that puts a command of Slurm in place, which prints something and ends."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name, said, status=0):
        stream = 2 if status else 1
        text = (
            f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho '{said}' >&{stream}\nexit {status}\n"
        )
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        return tmp_path / "asked"

    return put


def jobs_in(asked):
    """Of all that commands were asked, what sbatch was."""
    return [line for line in asked.read_text().splitlines() if line.startswith("--test-only")]


def check(**resources):
    check_slurm([{**ONE, **resources}])


def test_each_kind_of_job_is_asked_about_once(commands):
    commands("sinfo", NODES)
    asked = commands("sbatch", "")
    check_slurm([ONE, ONE, {"mem_mb": 100, "runtime": "<TBD>"}])
    check(gpu_model="a100", slurm_partition="cpu,gpu", slurm_extra="--mail-user 'a b'")
    assert jobs_in(asked) == [
        "--test-only --mem=8000 --time=60 --gpus=1 --wrap=true",
        "--test-only --mem=100 --wrap=true",
        "--test-only --partition=cpu,gpu --mem=8000 --time=60 --gpus=a100:1 --mail-user a b"
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
    commands("sinfo", NODES)
    commands("sbatch", "")
    with pytest.raises(UserError) as error:
        check(**resources)
    assert line in str(error.value)


def test_what_slurm_refuses_is_said_in_its_words(commands):
    commands("sinfo", "gpu*|infinite|64000|gpu:2")
    commands("sbatch", "sbatch: error: Invalid account or account/partition combination\nx", 1)
    with pytest.raises(
        UserError, match=r"--account=no --mem=8000 .*: Invalid account or account/part"
    ):
        check(slurm_account="no")


@pytest.mark.parametrize(
    ("resources", "ever"),
    [
        ({}, True),
        ({"gpu": 4, "gpu_model": "a100"}, True),
        ({"gpu": 5}, False),
        ({"gpu_model": "h200"}, False),
        ({"mem_mb": 65_000}, False),
        ({"slurm_partition": "cpu"}, False),
        ({"slurm_partition": "cpu", "gpu": 0, "mem_mb": 200_000}, True),
        ({"slurm_partition": "cpu,gpu"}, True),
    ],
)
def test_nodes_that_are_down_or_reserved_are_waited_for(commands, capsys, resources, ever):
    """Of them Slurm says the same as of nodes that there are not, but real jobs wait for them."""
    commands("sinfo", NODES)
    why = "Requested node configuration is not available"
    commands("sbatch", f"allocation failure: {why}", 1)
    if ever:
        check(**resources)
        assert f"wait until nodes are up or free, which they are not now: {why}" in (
            capsys.readouterr().err
        )
    else:
        with pytest.raises(UserError, match=f"Slurm refuses jobs with .*: {why}"):
            check(**resources)


def test_what_else_the_plugin_submits_is_asked_for_too(commands):
    commands("sinfo", NODES)
    asked = commands("sbatch", "")
    check(qos="long", constraint="nvme", gres="gpu:1", gpu=0, slurm_account="a,b")
    check(mem_mb_per_cpu=2000, slurm_account="a")
    check_slurm([{"clusters": "other", "slurm_partition": "unknown here"}])
    assert jobs_in(asked) == [
        "--test-only --qos=long --constraint=nvme --gres=gpu:1 --mem=8000 --time=60 --wrap=true",
        "--test-only --account=a --mem-per-cpu=2000 --time=60 --gpus=1 --wrap=true",
    ]


def test_gpus_of_a_node():
    assert gpus("gpu:a100:4(S:0-1),gpu:t4:2,shard:8") == {"": 6, "a100": 4, "t4": 2}
    assert gpus("gpu:2") == {"": 2}
    assert gpus("(null)") == {"": 0}


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
