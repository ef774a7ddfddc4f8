"""Which device a job computes on: decided, and leased, before torch is imported.

Snakemake never sets CUDA_VISIBLE_DEVICES, so two local GPU jobs would share device 0. A job takes a
lock file for each device that it was granted; the kernel frees the lock when the job dies. An
existing mask is respected, and Slurm masks devices itself.
"""

import fcntl
import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def installed_gpus() -> int:
    """How many NVIDIA devices this machine has."""
    return len(glob.glob("/dev/nvidia[0-9]*"))


@contextmanager
def lease(count: int, *, poll: float = 1.0) -> Iterator[list[int]]:
    """Hold `count` GPUs, waiting until they are free, and mask all others.

    Yields the devices held; none on a machine without GPUs, under an existing
    CUDA_VISIBLE_DEVICES, or under Slurm. More than are installed are cut to what there is.
    """
    masked = "CUDA_VISIBLE_DEVICES" in os.environ or "SLURM_JOB_ID" in os.environ
    count = 0 if masked else min(count, installed_gpus())
    if count == 0:
        yield []
        return
    folder = Path(tempfile.gettempdir()) / f"puriflow-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as held:
        devices = _take(count, folder, held)
        while devices is None:
            time.sleep(poll)
            devices = _take(count, folder, held)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
        try:
            yield devices
        finally:
            del os.environ["CUDA_VISIBLE_DEVICES"]


def _take(count: int, folder: Path, held: ExitStack) -> list[int] | None:
    """Lock `count` devices, or none at all if fewer are free."""
    locks: dict[int, IO[str]] = {}
    for device in range(installed_gpus()):
        file = (folder / f"{device}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        locks[device] = file
        if len(locks) == count:
            for lock in locks.values():
                held.enter_context(lock)
            return list(locks)
    for file in locks.values():
        file.close()
    return None


def start(threads: int | None = None) -> "torch.device":
    """Import torch and make it ready: the leased GPU, else the CPU with `threads` threads."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    # Full float32 on every device, so that a GPU's numbers are comparable with the CPU's.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
