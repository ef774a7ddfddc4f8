"""One process writes a store; the others wait for it, and use what it has made."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_stores import contents, writer, written

from puriflow.errors import UserError
from puriflow.store import holding
from puriflow.store.work import set_aside

IMAGES = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
LOSS = np.zeros(2, dtype=np.float32)


@pytest.fixture(params=["flock", "soft"])
def locks(request, monkeypatch):
    """Both kinds of locks, of which the signs of life come quickly."""
    monkeypatch.setattr(holding, "POLL", 0.02)
    monkeypatch.setattr(holding, "BEAT", 0.05)
    if request.param == "soft":
        no_flock(monkeypatch)
    return request.param


def no_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def aside():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def waiting(aside, capfd, folder, **changes):
    """A writer that waits by now, and the line by which it says so."""
    second = aside.submit(writer, folder, IMAGES, **changes)
    said = ""
    while "waiting for it" not in said:
        assert not second.done()
        said += capfd.readouterr().err
    return second, said


def test_a_store_under_way_is_waited_for_and_used(tmp_path, locks, aside, capfd):
    first = writer(tmp_path / "s", IMAGES)
    second, said = waiting(aside, capfd, tmp_path / "s")
    assert f"is being written by process {os.getpid()} on " in said
    first.write(0, {"images": IMAGES, "loss": LOSS}, seconds=1)
    made = contents(first.finish().folder)
    inode = (tmp_path / "s" / "manifest.json").stat().st_ino
    second = second.result(timeout=30)
    assert second.todo(4) == []
    assert contents(second.finish().folder) == made
    assert (tmp_path / "s" / "manifest.json").stat().st_ino == inode
    assert sorted(f.name for f in tmp_path.iterdir()) == ["s"]


def test_a_store_that_was_given_up_goes_on_from_its_batches(tmp_path, locks, aside, capfd):
    first = writer(tmp_path / "s", IMAGES)
    second, _ = waiting(aside, capfd, tmp_path / "s")
    first.write(0, {"images": IMAGES[:1], "loss": LOSS[:1]}, seconds=1)
    first.close()
    assert second.result(timeout=30).todo(4) == [(1, 2)]


@pytest.mark.parametrize("what", ["code", "images", "damage"])
def test_another_store_that_was_waited_for_is_made_anew(tmp_path, locks, aside, capfd, what):
    first = writer(tmp_path / "s", IMAGES[:1] if what == "images" else IMAGES)
    changes = {"code": "0" * 64} if what == "code" else {}
    second, _ = waiting(aside, capfd, tmp_path / "s", **changes)
    first.write(0, {"images": IMAGES[: len(first.labels)]}, seconds=1)
    discard = first._work.discard

    def flip_and_discard():
        if what == "damage":
            file = next(f for f in (tmp_path / "s").rglob("c/**/*") if f.is_file())
            file.write_bytes(b"0" + file.read_bytes()[1:])
        discard()

    first._work.discard = flip_and_discard
    first.finish()
    assert second.result(timeout=30).todo(4) == [(0, 2)]


def test_a_store_that_is_there_is_used(tmp_path):
    made = contents(written(tmp_path / "s", IMAGES, runs=[(0, 2)]).folder)
    again = writer(tmp_path / "s", IMAGES)
    assert again.todo(4) == []
    assert contents(again.finish().folder) == made
    assert writer(tmp_path / "s", IMAGES, seed=1).todo(4) == [(0, 2)]


def test_a_store_that_was_set_aside_is_put_back_and_used_or_replaced(tmp_path):
    """Snakemake removes it before a job, and makes an empty folder for what the job will make."""
    set_aside(tmp_path / "s")  # of nothing
    made = contents(written(tmp_path / "s", IMAGES, runs=[(0, 2)]).folder)
    for is_made in (False, True):
        set_aside(tmp_path / "s")
        assert sorted(f.name for f in tmp_path.iterdir()) == [".s.work"]
        if is_made:
            (tmp_path / "s").mkdir()
        again = writer(tmp_path / "s", IMAGES)
        assert again.todo(4) == []
        assert contents(again.finish().folder) == made
    set_aside(tmp_path / "s")
    other = writer(tmp_path / "s", IMAGES, seed=1)
    other.write(0, {"images": IMAGES}, seconds=1)
    assert other.finish().manifest["seed"] == 1
    assert sorted(f.name for f in tmp_path.iterdir()) == ["s"]


def test_a_store_that_another_writes_is_not_set_aside(tmp_path):
    written(tmp_path / "s", IMAGES, runs=[(0, 2)])
    other = writer(tmp_path / "s", IMAGES, seed=1)
    set_aside(tmp_path / "s")
    assert (tmp_path / "s" / "manifest.json").is_file()
    other.close()


HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
from puriflow.store import holding
holding.BEAT = 0.05
if sys.argv[2] == "soft":
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")
    fcntl.flock = refuse
holding.hold(Path(sys.argv[1]), "s")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path, locks):
    """Another process, which holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), locks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_live_holder_keeps_its_lock(tmp_path, holder, monkeypatch):
    found = holding._Holder(tmp_path / "lock")
    assert f"process {holder.pid} on " in str(found)
    while found._sign() == found.sign:
        time.sleep(0.01)
    later = time.monotonic() + 10 * holding.SILENT
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not found.is_silent()


def test_a_silent_holder_is_told_apart(tmp_path, holder, locks, monkeypatch, aside, capfd):
    """As if its host were dead: a soft lock goes over, that of the kernel the user judges."""
    monkeypatch.setattr(holding, "SILENT", 0.6)
    holder.send_signal(signal.SIGSTOP)
    waits, said = aside.submit(holding.hold, tmp_path / "lock", "s"), ""
    while "no sign of life" not in said:
        said += capfd.readouterr().err
    assert f"process {holder.pid} on " in said.split("no sign")[0].splitlines()[-1]
    if locks == "flock":
        assert f"if its host is dead, remove {tmp_path / 'lock'}" in said
        assert not waits.done()
        (tmp_path / "lock").unlink()
    waits.result(timeout=30).check()


def test_who_lost_a_soft_lock_puts_nothing_in_place(tmp_path, monkeypatch, aside, capfd):
    no_flock(monkeypatch)
    first = writer(tmp_path / "s", IMAGES)  # which gives a sign of life in 30 seconds at first
    said = capfd.readouterr().err
    assert "has no locks (flock): lock.soft keeps others out" in said
    first.write(0, {"images": IMAGES}, seconds=1)
    monkeypatch.setattr(holding, "POLL", 0.02)
    monkeypatch.setattr(holding, "SILENT", 0.2)
    second = aside.submit(writer, tmp_path / "s", IMAGES).result(timeout=30)
    with pytest.raises(UserError, match="was taken over, as this process had given no sign"):
        first.finish()
    first.close()
    assert not (tmp_path / "s").exists()
    second._work._held.check()
    assert second.done() == {0, 1}  # the batches of the first
    second.finish()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["s"]


def test_of_two_that_wait_one_takes_a_silent_lock(tmp_path, monkeypatch):
    """The one that comes late must not remove the lock of the one that was first."""
    no_flock(monkeypatch)
    path = tmp_path / "lock"
    holding.take(path)
    late = holding._Holder(path)
    soft = path.with_name("lock.soft")
    soft.unlink()
    first = holding.take(path)
    late._remove(soft)
    first.check()
    assert holding.take(path) is None
    assert sorted(f.name for f in tmp_path.iterdir()) == ["lock.soft"]
