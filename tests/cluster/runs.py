"""Runs of the tiny track in two shards, through a profile on a Slurm."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import slurm
from tiny_track import Project

from puriflow.chain import Chain

ATTACKED = Chain("imagenet", "pgd-linf4", "resnet50", "none", "none", "resnet50")
SHARDS = ("0-of-2", "1-of-2")
TARGETS = [f"results/{ATTACKED.folder('attack', shard)}/manifest.json" for shard in SHARDS]
CLEAN = Chain("imagenet", restorer="edsr-x2")
RESTORED = [f"results/{CLEAN.folder('restore', shard)}/manifest.json" for shard in SHARDS]
LONG = 600  # seconds in which whatever is waited for has happened, however slow the machine


def bytes_of(project: Project) -> dict[str, bytes]:
    """All files of the stores of a run, but for what says when they were made."""
    stores = [m.parent for m in (project.folder / "results").glob("**/manifest.json")]
    files = [file for store in stores for file in store.rglob("*") if file.is_file()]
    timed = ("timing.json", ".snakemake_timestamp")
    return {
        str(file.relative_to(project.folder)): file.read_bytes()
        for file in files
        if file.name not in timed
    }


class Cluster:
    """Runs of the tiny track through a profile, and their jobs."""

    def __init__(self, node: slurm.Slurm, project: Project, profile: str, *options: str):
        self.node, self.project, self.profile, self.options = node, project, profile, options
        self.environment = node.environment
        self.heads: list[subprocess.Popen] = []

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake in the background; what it says goes to head.log."""
        repository = self.project.repository
        command = ["snakemake", *arguments, "--snakefile", str(repository / "Snakefile")]
        command += ["--workflow-profile", str(repository / "profiles" / self.profile)]
        with (self.project.folder / "head.log").open("a") as log:
            head = subprocess.Popen(
                [*command, *self.options],
                cwd=self.project.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.heads.append(head)
        return head

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status of Snakemake, and all that it has said."""
        status = self.start(*arguments).wait(timeout=LONG)
        return status, self.said

    @property
    def said(self) -> str:
        return (self.project.folder / "head.log").read_text()

    def freeze(self, stage: str, count: int) -> list[psutil.Process]:
        """Stop so many jobs of a stage, as soon as they are there all at once and write stores."""
        found: list[psutil.Process] = []

        def enough() -> bool:
            for process in self._writers(stage):
                process.suspend()
                found.append(process)
            return len(found) >= count

        self.until(enough, f"{count} jobs of the {stage} stage")
        return found

    def _writers(self, stage: str) -> list[psutil.Process]:
        """The processes that hold the locks of stores, and are not stopped."""
        found = []
        for lock in (self.project.folder / "results" / stage).glob("**/.*.work/lock"):
            with suppress(psutil.Error, OSError, LookupError, ValueError):
                process = psutil.Process(int(lock.read_text().split()[1]))
                if process.status() != psutil.STATUS_STOPPED and process.is_running():
                    found.append(process)
        return found

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something has happened."""
        end = time.monotonic() + LONG
        while not happened():
            assert time.monotonic() < end, f"no {what}: {self.said[-4000:]}"
            time.sleep(0.05)

    def until_gone(self, process: psutil.Process) -> None:
        """Wait until a process has ended."""
        self.until(lambda: not process.is_running(), f"end of {process}")

    def close(self) -> None:
        """End what a failed test has left."""
        for head in self.heads:
            head.kill()
            head.wait()
        self.node.call("scancel", "--user=root")
        self.node.wait("", "squeue", "--noheader")
