"""The writer is stopped at each thing that it does to the file system; the same command goes on."""

import errno
import os
import shutil
import sys

import numpy as np
import pytest
from tiny_stores import contents, writer

from puriflow.errors import UserError
from puriflow.store import open_stage

IMAGES = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
WRITTEN, UNHARMED, REFUSED, KILLED, CRASHED = range(5)
EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fsync"}


def write(folder, seed=0):
    """A store of two batches, of what is left to do."""
    made = writer(folder, IMAGES, seed=seed)
    try:
        for start, stop in made.todo(1):
            made.write(start, {"images": IMAGES[start:stop]}, seconds=1)
        return made.finish()
    finally:
        made.close()


def fail():
    raise OSError(errno.ENOSPC, "No space left on device")


def forked(folder, at, act):
    """Write in a process of its own, and act at its event `at`; its exit status.

    A process cannot get rid of its audit hook.
    """
    count = 0

    def happened(event, arguments=()):
        nonlocal count
        if event in EVENTS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == at:
                act()

    child = os.fork()
    if child != 0:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = CRASHED
    try:
        sys.addaudithook(happened)
        os.fsync = lambda handle: happened("fsync")
        write(folder, seed=1)
        status = WRITTEN if count >= at else UNHARMED
    except UserError:
        status = REFUSED
    finally:
        os._exit(status)


@pytest.mark.parametrize("act", [fail, lambda: os._exit(KILLED)], ids=["full disk", "kill"])
def test_at_every_event(tmp_path, monkeypatch, act):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow, and the machine stays up
    old = contents(write(tmp_path / "old").folder)
    new = contents(write(tmp_path / "new", seed=1).folder)
    for at in range(1, 1000):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "old", folder)
        status = forked(folder, at, act)
        if status == UNHARMED:  # it has fewer events
            break
        assert status in (WRITTEN, REFUSED, KILLED)
        # A reader finds the old store, the new one or, for a moment, none; never a part.
        found = contents(folder) if folder.exists() else None
        assert found in ((old, new) if act is fail else (old, new, None))
        assert (found == new) or status != WRITTEN
        assert contents(write(folder, seed=1).folder) == new
        assert open_stage(folder).count == 2
        assert not (tmp_path / f".{at}.work").exists()
    assert at > 50
