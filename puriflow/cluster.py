"""Whether a Slurm takes the jobs of a run, asked before the first is submitted.

The plugin says what Slurm refuses for each job and each try, with the whole command, minutes after
the start. `sbatch --test-only` says it of a kind of job at once, and submits nothing.
"""

import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from puriflow.errors import UserError, unknown

BEHIND_RESULTS = False
PATIENCE = 30  # seconds for an answer of Slurm
TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")  # days, hours, minutes, seconds


class Asked(NamedTuple):
    """What a job asks Slurm for: None for what Slurm chooses."""

    partition: str | None
    account: str | None
    gpus: str | None
    mem_mb: int | None
    runtime: int | None
    extra: str | None

    @classmethod
    def of(cls, resources: Mapping[str, Any]) -> "Asked":
        """By the resources that the plugin reads; of what is not known yet nothing is asked."""
        gpus, model = number(resources.get("gpu")), resources.get("gpu_model")
        return cls(
            partition=text(resources.get("slurm_partition")),
            account=text(resources.get("slurm_account")),
            gpus=(f"{model}:{gpus}" if model else str(gpus)) if gpus else None,
            mem_mb=number(resources.get("mem_mb")),
            runtime=number(resources.get("runtime")),
            extra=text(resources.get("slurm_extra")),
        )

    def options(self) -> list[str]:
        """Of sbatch."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "gpus": self.gpus,
            "mem": self.mem_mb,
            "time": self.runtime,
        }
        found = [f"--{name}={value}" for name, value in named.items() if value is not None]
        return [*found, *shlex.split(self.extra or "")]


def check_slurm(asked: Iterable[Asked]) -> None:
    """Ask Slurm whether it would take jobs, each kind once.

    Raises:
        UserError: it would not, or gives no answer.
    """
    for one in dict.fromkeys(asked):
        limits, default = partitions()
        names = (one.partition or default).split(",")
        for name in names:
            if name and name not in limits:
                raise unknown("partition of this Slurm", name, limits)
        if (why := refused(one.options())) is not None:
            raise UserError(f"Slurm refuses jobs with {' '.join(one.options())}: {why}")
        longest = max(limits.get(name, float("inf")) for name in names)
        if one.runtime is not None and one.runtime > longest:
            raise UserError(
                f"partition {one.partition or default} gives a job {longest:g} minutes: one that "
                f"asks for {one.runtime} waits for ever; set compute.longest to {longest:g} in the "
                "track"
            )


@cache
def partitions() -> tuple[dict[str, float], str]:
    """The partitions, with the minutes that each gives a job, and the default one's name.

    Raises:
        UserError: Slurm does not answer.
    """
    try:
        ended = _ask("sinfo", "--noheader", "--format=%P|%l")
    except OSError as error:
        raise UserError(f"no Slurm is here: {error.filename}: {error.strerror}") from None
    if ended.returncode != 0:
        raise UserError(f"Slurm does not answer: {reason(ended.stderr)}")
    rows = [line.strip().partition("|") for line in ended.stdout.splitlines() if line.strip()]
    default = next((name[:-1] for name, _, _ in rows if name.endswith("*")), "")
    return {name.removesuffix("*"): minutes(limit) for name, _, limit in rows}, default


def refused(options: list[str]) -> str | None:
    """Why Slurm refuses a job with these options; None if it does not."""
    ended = _ask("sbatch", "--test-only", *options, "--wrap=true")
    return None if ended.returncode == 0 else reason(ended.stderr)


def reason(said: str) -> str:
    """The first line of what a command of Slurm says, without its name."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason"]
    return re.sub(r"^(?:\w+: )?(?:error: |allocation failure: )?", "", lines[0])


def minutes(limit: str) -> float:
    """Of a limit as sinfo says it: `2-00:00:00`, `30:00`, `infinite`."""
    filled = f"0:{limit}" if limit.count(":") == 1 else limit
    if (match := TIME.fullmatch(filled)) is None:
        return float("inf")
    days, hours, rest, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60


def number(value: object) -> int | None:
    """A resource that is a number; None of one that is not known yet."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """A resource that is a name, or a number as a name."""
    return str(value) if isinstance(value, (str, int)) and value != "" else None


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"Slurm does not answer: {command[0]} took {PATIENCE} seconds") from None
