"""The workflow on a real Slurm, whose jobs, node and head die; it ends as a local run."""

import sys

from runs import LONG, SHARDS, TARGETS, bytes_of

QUICK = ("--slurm-init-seconds-before-status-checks", "2")


def job_of(process):
    return process.environ()["SLURM_JOB_ID"]


def shard_of(process):
    return next(word[-6:] for word in process.cmdline() if word.endswith(SHARDS))


def log_of(cluster, shard):
    return cluster.project.folder / f"logs/attack/imagenet/pgd-linf4/resnet50/{shard}.log"


def test_faults_change_no_byte(cluster, node, local):
    """A job is cancelled, slurmd killed, then the head, whose jobs go on beside the next one's."""
    slurm = cluster("slurm", *QUICK)
    head = slurm.start(*TARGETS)
    jobs = slurm.freeze("attack", 2)
    assert {shard_of(job) for job in jobs} == set(SHARDS)
    assert {job.environ()["CUDA_VISIBLE_DEVICES"] for job in jobs} == {"0", "1"}
    assert len(set(map(job_of, jobs))) == 2

    cancelled, orphan = jobs
    lost = shard_of(cancelled)
    node.call("scancel", job_of(cancelled))
    slurm.until_gone(cancelled)
    node.kill("slurmd")
    node.start_node()
    (again,) = slurm.freeze("attack", 1)
    assert shard_of(again) == lost
    assert orphan.is_running()

    head.kill()
    head.wait()
    again.resume()
    slurm.until_gone(again)
    slurm.project.snakemake("--unlock")
    second = slurm.start(*TARGETS)
    log = log_of(slurm, shard_of(orphan))
    slurm.until(lambda: log.exists() and "waiting for it" in log.read_text(), "job that waits")
    assert orphan.is_running()
    orphan.resume()
    assert second.wait(timeout=LONG) == 0, slurm.said
    assert "is there: it is used" in log.read_text()
    assert bytes_of(slurm.project) == local(TARGETS)
    assert not list(slurm.project.folder.glob("results/**/.*.work")), "work is left"


def test_two_heads_compute_a_store_once(cluster):
    """What the first one's job computes, that of the second waits for."""
    slurm, target = cluster("slurm", *QUICK), "results/images/imagenet/0-of-2/manifest.json"
    first = slurm.start(target)
    (job,) = slurm.freeze("images", 1)
    second = slurm.start(target, "--nolock")
    log = slurm.project.folder / "logs/images/imagenet/0-of-2.log"
    slurm.until(lambda: log.exists() and "waiting for it" in log.read_text(), "job that waits")
    job.resume()
    assert (first.wait(timeout=LONG), second.wait(timeout=LONG)) == (0, 0), slurm.said
    assert "is there: it is used" in log.read_text()
    assert (slurm.project.folder / target).is_file()


LEASED = """
import os, subprocess, sys
from puriflow.lease import lease
whole = dict(os.environ)
with lease(1) as mine:
    print(*mine, flush=True)
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, __file__, "second"], env=whole, check=True)
"""


def test_jobs_in_one_allocation_lease_its_gpus(node, tmp_path):
    """Each has one of two devices, as on one machine, though Slurm shows both to both."""
    program = tmp_path / "leased.py"
    program.write_text(LEASED)
    said = node.call("srun", "--quiet", "--gpus=2", "--ntasks=1", sys.executable, str(program))
    assert sorted(said.split()) == ["0", "1"]
