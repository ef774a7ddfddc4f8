"""GPUs that local jobs share: a job leases its own before torch first looks for one.

Snakemake never sets CUDA_VISIBLE_DEVICES, so two local GPU jobs would share device 0. A job takes a
lock file for each device that it was granted; the kernel frees the lock when the job dies. Devices
are taken from within an existing mask: a user's own, or that of a Slurm allocation, in which
several jobs may run.
"""

import glob
import hashlib
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from puriflow.atomic import lock
from puriflow.errors import UserError

BEHIND_RESULTS = False
MASK, SLURM = "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"
# A device's number, or its UUID, also of a part of it: MIG-GPU-<uuid>/1/2, MIG-<uuid>.
DEVICE = re.compile(r"(?P<number>[0-9]{1,9})|(?P<gpu>GPU-[\w-]+)|(?P<mig>MIG-[\w/-]+)")


def installed_gpus() -> int:
    """How many NVIDIA devices this machine has."""
    return len(glob.glob("/dev/nvidia[0-9]*"))


def visible_gpus() -> list[str]:
    """The devices that this process may use: those of an existing mask, else all.

    CUDA's rules: a mask ends before what is no device, as -1 or one that is not there, and before
    what is written in another way; if one is repeated, none is visible.
    """
    installed, mask = installed_gpus(), os.environ.get(MASK)
    if mask is None:
        return [] if SLURM in os.environ else [str(i) for i in range(installed)]
    devices: list[str] = []
    form = None
    for name in map(str.strip, mask.split(",")):
        match = DEVICE.fullmatch(name)
        if match is None or form not in (None, match.lastgroup):
            break
        form = match.lastgroup
        if form == "number":
            name = str(int(name))
            if 0 < installed <= int(name):
                break
        devices.append(name)
    return devices if len(set(devices)) == len(devices) else []


@contextmanager
def lease(count: int, *, poll: float = 1.0) -> Generator[list[str]]:
    """Hold `count` of the visible GPUs, waiting until they are free, and mask all others.

    Yields the devices held; none on a machine without GPUs, or under Slurm without a mask: then it
    says by itself which are whose. More than are visible are cut to what there is.

    Raises:
        UserError: `count` is below 0, or the folder of the locks is not this user's alone.
        OSError: a lock is a link, or its file system has none.
    """
    if count < 0:
        raise UserError(f"gpus is {count}, but must be 0 or more")
    count = min(count, len(visible_gpus()))
    if count == 0:
        yield []
        return
    folder, mask = lock_folder(), os.environ.get(MASK)
    with ExitStack() as held:
        while (devices := _take(count, folder, held)) is None:
            time.sleep(poll)
        os.environ[MASK] = ",".join(devices)
        try:
            yield devices
        finally:
            if mask is None:
                del os.environ[MASK]
            else:
                os.environ[MASK] = mask


def lock_folder() -> Path:
    """The folder of this user's locks; anybody may have made one of that name in /tmp before."""
    folder = Path(tempfile.gettempdir()) / f"puriflow-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.getuid():
        raise UserError(
            f"{folder} must be a folder of your own that nobody else can use (mode 700), and no "
            "link: remove it, or set TMPDIR"
        )
    return folder


def lock_name(device: str) -> str:
    """The name of a device's lock file.

    Hashed, since a mask may say anything; of this machine and this allocation, since device 0 of
    another is another one.
    """
    names = (socket.gethostname(), os.environ.get(SLURM, ""), device)
    return f"{hashlib.sha256(chr(0).join(names).encode()).hexdigest()}.lock"


def _take(count: int, folder: Path, held: ExitStack) -> list[str] | None:
    """Lock `count` devices, or none at all if fewer are free."""
    with ExitStack() as locks:
        taken: list[str] = []
        for device in visible_gpus():
            if (file := lock(folder / lock_name(device), wait=False)) is not None:
                locks.enter_context(file)
                taken.append(device)
            if len(taken) == count:
                held.enter_context(locks.pop_all())
                return taken
    return None
