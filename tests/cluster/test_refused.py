"""What a cluster would refuse is one line, before anything is submitted."""

import pytest
from runs import TARGETS

ASKED = ("--default-resources", "mem_mb=4000", "runtime=60")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            [*ASKED, "slurm_partition=mian"],
            "unknown partition of this Slurm 'mian': did you mean 'main'? known are main",
        ),
        (
            ["--set-resources", "attack_images:gpu=3"],
            "--mem=8000 --time=1440 --gpus=3: Requested node configuration is not available",
        ),
        (
            ["--set-resources", "attack_images:mem_mb=100000000"],
            "--mem=100000000 --time=1440 --gpus=1: Requested node configuration is not available",
        ),
        (
            ["--config", "compute={longest: 5000}"],
            "partition main gives a job 2880 minutes: one that asks for 5000 waits for ever; "
            "set compute.longest to 2880 in the track",
        ),
    ],
    ids=["partition", "gpus", "memory", "time"],
)
def test_what_slurm_refuses_is_one_line(cluster, node, options, line):
    before = node.call("squeue", "--noheader", "--states=all")
    slurm = cluster("slurm")
    status, said = slurm.run(*TARGETS, *options)
    assert status != 0
    (found,) = (one for one in said.splitlines() if one.startswith("puriflow: error: "))
    assert found.endswith(line)
    assert "Traceback" not in said
    assert node.call("squeue", "--noheader", "--states=all") == before
    assert list(slurm.project.folder.glob(".snakemake/locks/*")) == []
