# What was deleted or replaced, and Snakemake by itself would not make again.
from functools import cache

from puriflow.missed import missed, planned
from puriflow.provenance import data_hash
from puriflow.store.work import set_aside


def missed_by(rule, *sources, changed=lambda wildcards: False):
    """The mark by which a rule runs though Snakemake misses nothing (puriflow.missed).

    Of its sources, which are files that other rules make, as names or as functions of wildcards.
    """

    def marks(wildcards):
        names = dict(wildcards.items())
        files = [file.format(**names) for file in getattr(rules, rule).output]
        if not workflow.is_main_process:  # but a job of it, say on a cluster
            if is_this_job(rule, names):
                set_aside(Path(files[0]))
            return planned(files)
        found = (s(wildcards) if callable(s) else s.format(**names) for s in sources)
        needed = [
            file for one in found for file in ([one] if isinstance(one, str) else one)
        ]
        return missed(files, needed, lambda: changed(wildcards))

    return exit_on_error(marks)


def is_this_job(rule, names):
    """Whether this process was started to run the job of a rule with these wildcards."""
    jobs = [] if workflow.dryrun else workflow.dag_settings.target_jobs
    return any((job.rulename, job.wildcards_dict) == (rule, names) for job in jobs)


@cache
def data_now(dataset):
    """The fingerprint of a data set as its files are now: looked at once, not for every shard."""
    return data_hash(TRACK.part("dataset", dataset))


def other_data(wildcards):
    """Whether the files of a data set are others now than those whose images are stored."""
    from puriflow.lineage import check_data
    from puriflow.store import open_stage

    store = f"results/images/{wildcards.dataset}/{wildcards.shard}"
    try:
        check_data(
            open_stage(store, verify=False),
            wildcards.dataset,
            data_now(wildcards.dataset),
        )
    except UserError:
        return True
    return False
