"""A storm of kills: jobs and Snakemake itself die at random, and the results are the same bytes."""

import random
import subprocess
import time

import psutil

KILLS, HEADS = 7, 2  # of jobs, and of Snakemake; ten times as many by --storm


def test_kills_change_no_byte(built, empty, storm):
    draw = random.Random(0)
    kills = (["job"] * KILLS + ["head"] * HEADS) * (10 if storm else 1)
    draw.shuffle(kills)
    while True:
        head = start(empty)
        while kills and (job := running_job(head, draw)) is not None:
            what = kills.pop()
            if what == "head":
                head.kill()
                break
            job.kill()
        if head.wait() == 0:
            break
        end_orphans(empty.folder, leave=draw.random() < 0.5)
        empty.snakemake("--unlock")
    assert not kills, f"it ended {len(kills)} kills before the storm did"
    ours, theirs = bytes_of(empty.folder), bytes_of(built.folder)
    assert len(ours) > 50
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert not list(empty.folder.glob("results/**/.*.work")), "work is left"


def start(project):
    """Snakemake, building the table in the background; a job that dies is tried again."""
    options = ("--rerun-incomplete", "--retries", "50", "--quiet", "all")
    command = ["snakemake", "results/tabletiny.csv", *options]
    command += ["--snakefile", str(project.repository / "Snakefile")]
    return subprocess.Popen(command, cwd=project.folder, stderr=subprocess.DEVNULL)


def running_job(head, draw):
    """One of its jobs, at a random moment of its life; None when Snakemake has ended."""
    waits = draw.random() * 4  # a job takes about as many seconds, most of them imports
    while head.poll() is None:
        jobs = [p for p in psutil.Process(head.pid).children(recursive=True) if is_job(p)]
        if jobs and waits <= 0:
            return draw.choice(jobs)
        time.sleep(0.05)
        waits -= 0.05 * bool(jobs)
    return None


def is_job(process):
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return any(word.endswith("/puriflow") for word in command[:2])


def end_orphans(folder, *, leave):
    """Wait for what a killed Snakemake left running, or kill it as well."""
    orphans = [p for p in psutil.process_iter() if is_job(p) and cwd_of(p) == str(folder)]
    for orphan in orphans:
        if not leave:
            orphan.kill()
    psutil.wait_procs(orphans)


def cwd_of(process):
    try:
        return process.cwd()
    except psutil.Error:
        return None


def bytes_of(folder):
    """The bytes of all files of the stores in a folder, but for their times."""
    manifests = (folder / "results").glob("**/manifest.json")
    files = [file for manifest in manifests for file in manifest.parent.rglob("*")]
    timed = ("timing.json", ".snakemake_timestamp")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in files
        if file.is_file() and file.name not in timed
    }
