"""Which device a job computes on: decided, and leased, before torch is imported.

Snakemake never sets CUDA_VISIBLE_DEVICES, so two local GPU jobs would share device 0. A job takes a
lock file for each device that it was granted; the kernel frees the lock when the job dies. Devices
are taken from within an existing mask, and Slurm masks devices itself.
"""

import fcntl
import glob
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


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
def lease(count: int, *, poll: float = 1.0) -> Iterator[list[str]]:
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
    locks: dict[str, IO[str]] = {}
    for device in visible_gpus():
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


def start(*, gpu: bool, threads: int | None = None) -> "torch.device":
    """Import torch and make it ready: the leased GPU if `gpu`, else the CPU with `threads`."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    # Full float32 on every device, so that a GPU's numbers are comparable with the CPU's.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")


def in_batches(
    compute: Callable[..., "torch.Tensor"], device: "torch.device", *arrays: "np.ndarray"
) -> "torch.Tensor":
    """Run `compute` on arrays of samples: at once on a GPU, sample by sample on a CPU.

    A CPU computes single images as fast, and only so are its results the same to the last bit for
    every batch size: its kernels sum in another order for another number of images.
    """
    import torch

    size = 1 if device.type == "cpu" else len(arrays[0])
    parts = []
    for i in range(0, len(arrays[0]), size):
        tensors = (torch.from_numpy(a[i : i + size]).to(device) for a in arrays)
        parts.append(compute(*tensors))
    return torch.cat(parts)
