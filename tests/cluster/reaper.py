"""Run a command and wait for all processes that it leaves; it ends with what started it.

The first process of a container may not do that, and Slurm holds a job whose processes stay as the
undead for one that runs. (A module of its own, to be started as a program.)
"""

import ctypes
import os
import signal
import subprocess
import sys

DEATH_SIGNAL, CHILD_SUBREAPER = 1, 36  # numbers of prctl


def end_with_parent() -> None:
    """In a new process: end when the one that started it does, however that ends."""
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1)
    subprocess.Popen(sys.argv[1:], preexec_fn=end_with_parent)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
