"""Whether a Slurm takes the jobs of a run, asked before the first is submitted.

The plugin says what Slurm refuses for each job and each try, with the whole command, minutes after
the start. `sbatch --test-only` says it of a kind of job at once, and submits nothing. It refuses as
well what waits in a queue until nodes are up again or a reservation has ended: that is a warning.
"""

import logging
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from puriflow.errors import UserError, unknown

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
PATIENCE = 30  # seconds for an answer of Slurm
TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")  # days, hours, minutes, seconds
GPUS = re.compile(r"gpu(?::([^:(),]+))?:(\d+)")  # of a node: model and number
UNAVAILABLE = "node configuration is not available"  # by Slurm of nodes that are down, too
NAMED = {  # options of sbatch by the resources that the plugin makes them of
    "slurm_partition": "partition",
    "slurm_account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "gres": "gres",
    "mem_mb": "mem",
    "mem_mb_per_cpu": "mem-per-cpu",
    "runtime": "time",
}
ELSEWHERE = ("cluster", "clusters", "slurm_cluster")  # resources that name another Slurm


class Partition(NamedTuple):
    """What a partition gives a job at most."""

    minutes: float
    nodes: list[tuple[int, dict[str, int]]]  # megabytes, and GPUs by model ("" for any)


class Asked(NamedTuple):
    """What a job asks a Slurm for."""

    options: tuple[str, ...]  # of sbatch
    partitions: tuple[str, ...]  # by name; none for the default one
    mem_mb: int
    gpus: tuple[str, int]  # of a model ("" for any), how many
    runtime: int | None  # minutes

    @classmethod
    def of(cls, resources: Mapping[str, Any]) -> "Asked | None":
        """By the resources that the plugin reads; None of a job for another Slurm.

        Nothing is asked of what is not known yet, and no account where several are named, of which
        the plugin takes one.
        """
        if any(resources.get(name) for name in ELSEWHERE):
            return None
        said = {o: v for name, o in NAMED.items() if (v := plain(resources.get(name))) is not None}
        if "," in said.get("account", ""):
            del said["account"]
        if "mem-per-cpu" in said:
            said.pop("mem", None)
        count, model = plain(resources.get("gpu")) or "0", plain(resources.get("gpu_model")) or ""
        if int(count):
            said["gpus"] = f"{model}:{count}" if model else count
        extra = shlex.split(plain(resources.get("slurm_extra")) or "")
        options = (*(f"--{name}={value}" for name, value in said.items()), *extra)
        named = said.get("partition")
        runtime = int(said["time"]) if said.get("time", "").isdecimal() else None
        names = tuple(named.split(",")) if named else ()
        return cls(options, names, int(said.get("mem", 0)), (model, int(count)), runtime)

    def fits(self, partition: Partition) -> bool:
        """Whether a node of a partition, if it is up or not, has the memory and the GPUs."""
        model, count = self.gpus
        return any(m >= self.mem_mb and g.get(model, 0) >= count for m, g in partition.nodes)


def check_slurm(resources: Iterable[Mapping[str, Any]]) -> None:
    """Ask Slurm whether it would take jobs, each kind once.

    Raises:
        UserError: it never would, or gives no answer.
    """
    asked = dict.fromkeys(Asked.of(one) for one in resources)
    asked.pop(None, None)
    if asked:
        known, default = partitions()
        for one in asked:
            if one is not None:
                _check(one, known, default)


def _check(asked: Asked, known: Mapping[str, Partition], default: str) -> None:
    names = [name for name in asked.partitions or (default,) if name]
    for name in names:
        if name not in known:
            raise unknown("partition of this Slurm", name, known)
    said = " ".join(asked.options)
    if (why := refused(asked.options)) is not None:
        if UNAVAILABLE not in why or not any(asked.fits(known[name]) for name in names):
            raise UserError(f"Slurm refuses jobs with {said}: {why}")
        line = f"jobs with {said} wait until nodes are up or free, which they are not now: {why}"
        log.warning(line)
    longest = max((known[name].minutes for name in names), default=float("inf"))
    if asked.runtime is not None and asked.runtime > longest:
        raise UserError(
            f"partition {','.join(names)} gives a job {longest:g} minutes: one that asks for "
            f"{asked.runtime} waits for ever; set compute.longest to {longest:g} in the track"
        )


def partitions() -> tuple[dict[str, Partition], str]:
    """The partitions by name, and the name of the default one.

    Raises:
        UserError: Slurm does not answer.
    """
    ended = _ask("sinfo", "--all", "--noheader", "--exact", "--format=%P|%l|%m|%G")
    if ended.returncode != 0:
        raise UserError(f"Slurm does not answer: {reason(ended.stderr)}")
    found: dict[str, Partition] = {}
    default = ""
    for line in filter(None, map(str.strip, ended.stdout.splitlines())):
        name, limit, memory, gres = line.split("|")
        if name.endswith("*"):
            default = name = name[:-1]
        partition = found.setdefault(name, Partition(minutes(limit), []))
        partition.nodes.append((int(memory.rstrip("+") or 0), gpus(gres)))
    return found, default


def refused(options: Iterable[str]) -> str | None:
    """Why Slurm refuses a job with these options now; None if it does not."""
    ended = _ask("sbatch", "--test-only", *options, "--wrap=true")
    return None if ended.returncode == 0 else reason(ended.stderr)


def reason(said: str) -> str:
    """The first line of what a command of Slurm says, without its name."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason"]
    return re.sub(r"^(?:\w+: )?(?:error: |allocation failure: )?", "", lines[0])


def gpus(gres: str) -> dict[str, int]:
    """GPUs of a node by model, and all of them as "": of `gpu:a100:4(S:0-1),gpu:t4:2`."""
    found = {"": 0}
    for model, count in GPUS.findall(gres):
        found[""] += int(count)
        if model:
            found[model] = found.get(model, 0) + int(count)
    return found


def minutes(limit: str) -> float:
    """Of a limit as sinfo says it: `2-00:00:00`, `30:00`, `infinite`."""
    filled = f"0:{limit}" if limit.count(":") == 1 else limit
    if (match := TIME.fullmatch(filled)) is None:
        return float("inf")
    days, hours, rest, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60


def plain(value: object) -> str | None:
    """A resource that is a name or a number, as text; None of one that is not known yet."""
    known = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value) if known and value not in ("", "<TBD>") else None


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"Slurm does not answer: {command[0]} took {PATIENCE} seconds") from None
    except OSError as error:
        raise UserError(f"no Slurm is here: {command[0]}: {error.strerror}") from None
