"""GPUs that local jobs share: a job leases its own before torch is imported.

Snakemake never sets CUDA_VISIBLE_DEVICES, so two local GPU jobs would share device 0. A job takes a
lock file for each device that it was granted; the kernel frees the lock when the job dies. Devices
are taken from within an existing mask, and Slurm masks devices itself.
"""

import glob
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from puriflow.atomic import lock

BEHIND_RESULTS = False


def installed_gpus() -> int:
    """How many NVIDIA devices this machine has."""
    return len(glob.glob("/dev/nvidia[0-9]*"))


def visible_gpus() -> list[str]:
    """The devices that this process may use: those of an existing mask, else all."""
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    if mask is None:
        return [str(i) for i in range(installed_gpus())]
    return [device for device in mask.split(",") if device]


@contextmanager
def lease(count: int, *, poll: float = 1.0) -> Generator[list[str]]:
    """Hold `count` of the visible GPUs, waiting until they are free, and mask all others.

    Yields the devices held; none on a machine without GPUs, or under Slurm. More than are visible
    are cut to what there is.
    """
    count = 0 if "SLURM_JOB_ID" in os.environ else min(count, len(visible_gpus()))
    if count == 0:
        yield []
        return
    folder = Path(tempfile.gettempdir()) / f"puriflow-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    with ExitStack() as held:
        while (devices := _take(count, folder, held)) is None:
            time.sleep(poll)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        try:
            yield devices
        finally:
            if mask is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = mask


def _take(count: int, folder: Path, held: ExitStack) -> list[str] | None:
    """Lock `count` devices, or none at all if fewer are free."""
    with ExitStack() as locks:
        taken: list[str] = []
        for device in visible_gpus():
            if (file := lock(folder / f"{device}.lock", wait=False)) is not None:
                locks.enter_context(file)
                taken.append(device)
            if len(taken) == count:
                held.enter_context(locks.pop_all())
                return taken
    return None
