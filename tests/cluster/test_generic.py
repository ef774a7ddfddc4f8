"""The workflow by plain sbatch, as on clusters without a plugin; it ends as a local run."""

from runs import LONG, RESTORED, bytes_of


def test_plain_sbatch_ends_as_a_local_run(cluster, node, local):
    """A job is cancelled, of which a status command alone can tell."""
    generic = cluster("cluster", "--seconds-between-status-checks", "1")
    head = generic.start(*RESTORED)
    job, *others = generic.freeze("restore", 1)
    number = job.environ()["SLURM_JOB_ID"]
    node.call("scancel", number)
    for other in others:
        other.resume()
    assert head.wait(timeout=LONG) == 0, generic.said
    assert bytes_of(generic.project) == local(RESTORED)
    assert f"external jobid '{number}'" in generic.said
    assert not list(generic.project.folder.glob("results/**/.*.work")), "work is left"
