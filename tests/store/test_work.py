"""Work under way: what is damaged of it is made anew, and only what is ours is removed."""

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tiny_stores import contents, writer, written

from puriflow import atomic
from puriflow.errors import UserError
from puriflow.store import damaged_work, open_stage, work_under_way
from puriflow.store.holding import held_by_another

IMAGES = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)


def begun(folder, **changes):
    """Two of four images are done; the folder of the work."""
    with closing(writer(folder, IMAGES, **changes)) as made:
        for start in (0, 1):
            made.write(start, {"images": IMAGES[start : start + 1]}, seconds=1)
        return made.work


def finished(folder):
    with closing(writer(folder, IMAGES)) as made:
        for start, stop in made.todo(4):
            made.write(start, {"images": IMAGES[start:stop]}, seconds=1)
        return contents(made.finish().folder)


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position // 8] ^= 1 << position % 8
    file.write_bytes(content)


@pytest.mark.parametrize("where", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_bit_of_a_batch_is_made_anew(tmp_path, capsys, where):
    whole = finished(tmp_path / "whole")
    file = begun(tmp_path / "s") / "00000001-00000002.batch"
    flip(file, int(where * 8 * file.stat().st_size))
    assert damaged_work(tmp_path / ".s.work") == [file]
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        assert made.done() == {0}
    said = capsys.readouterr().err.splitlines()
    assert said == [f"puriflow: {file} was damaged: it is dropped, and what it held is made anew"]
    assert finished(tmp_path / "s") == whole


def to_folder(file):
    file.unlink()
    file.mkdir()
    (file / "inner").touch()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.rename(file.with_name("00000002-00000003.batch")),
        lambda file: file.rename(file.with_name("00000001-00000004.batch")),
        lambda file: atomic.write_sealed(file, b"no arrays"),
        lambda file: file.unlink(),
        to_folder,
    ],
)
def test_a_batch_that_is_not_what_its_name_says_is_made_anew(tmp_path, damage):
    whole = finished(tmp_path / "whole")
    damage(begun(tmp_path / "s") / "00000001-00000002.batch")
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        assert made.done() == {0}
    assert finished(tmp_path / "s") == whole


def test_damage_while_it_is_computed_is_one_line_and_the_same_command_goes_on(tmp_path):
    begun(tmp_path / "s")
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        made.write(2, {"images": IMAGES[2:]}, seconds=1)
        flip(made.work / "00000000-00000001.batch", 99)
        with pytest.raises(UserError, match=r"00000000-00000001\.batch was damaged; run this agai"):
            made.finish()
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        assert made.done() == {1, 2, 3}
    assert finished(tmp_path / "s") == finished(tmp_path / "whole")


def test_damaged_work_blocks_no_other_work_and_none_is_left(tmp_path):
    work = begun(tmp_path / "s")
    (work / ".00000002-00000003.batch.1234.tmp").write_bytes(b"half")
    (work / f"building-{'0' * 32}").mkdir()
    assert work_under_way(tmp_path) == [work.parent]
    assert damaged_work(work.parent) == []
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        left = sorted(file.name for file in made.work.iterdir())
        assert left == ["00000000-00000001.batch", "00000001-00000002.batch"]
    finished(tmp_path / "s")
    assert work_under_way(tmp_path) == []


def test_what_somebody_put_into_the_folder_of_the_work_stays(tmp_path):
    work = begun(tmp_path / "s")
    (work.parent / "mine").mkdir()
    (work.parent / "mine" / "notes.txt").write_text("precious")
    begun(tmp_path / "s", seed=1)
    assert not work.exists()
    finished(tmp_path / "s")
    assert (work.parent / "mine" / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("when", ["before the lock goes", "after it", "after the folder"])
def test_a_store_may_be_begun_anew_while_it_is_finished(tmp_path, monkeypatch, when):
    """Whoever makes the lock file anew must not fail the store that is finished."""
    whole = finished(tmp_path / "whole")
    unlink, rmdir = Path.unlink, Path.rmdir
    with ThreadPoolExecutor(1) as aside:
        others = []

        def other():
            others.append(aside.submit(writer, tmp_path / "s", IMAGES))
            if when != "before the lock goes":  # else it waits for this one
                others[0].result(timeout=30)

        def unlinked(path, missing_ok=False):
            if path.name == "lock" and when == "before the lock goes" and not others:
                other()
            unlink(path, missing_ok)
            if path.name == "lock" and when == "after it" and not others:
                other()

        def removed(path):
            rmdir(path)
            if path.name == ".s.work" and when == "after the folder" and not others:
                other()

        monkeypatch.setattr(Path, "unlink", unlinked)
        monkeypatch.setattr(Path, "rmdir", removed)
        assert finished(tmp_path / "s") == whole
        (second,) = (other.result(timeout=30) for other in others)
    assert held_by_another(tmp_path / ".s.work" / "lock")
    if not second.done():  # it waited for nobody, so it makes the store anew
        second.write(0, {"images": IMAGES}, seconds=1)
    assert contents(second.finish().folder) == whole
    assert not (tmp_path / ".s.work").exists()


def test_a_folder_that_goes_between_its_making_and_the_lock_s_is_made_again(tmp_path, monkeypatch):
    path, opened, calls = tmp_path / "work" / "lock", os.open, []

    def removed_before(name, *arguments):
        if not calls:
            calls.append(name)
            path.parent.rmdir()
        return opened(name, *arguments)

    monkeypatch.setattr(os, "open", removed_before)
    atomic.lock(path, wait=False).close()
    assert calls == [path]


@pytest.mark.parametrize("number", ["ENOSYS", "ENOTSUP", "ENOLCK"])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(getattr(errno, number), "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"its file system has no locks \(flock\): mount it"):
        atomic.lock(tmp_path / "lock", wait=True)


def test_a_lock_is_never_a_link(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to("mine")
    with pytest.raises(OSError, match="is a link, which a lock must not be") as error:
        atomic.lock(tmp_path / "lock", wait=True)
    assert error.value.filename == str(tmp_path / "lock")
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES[1:2, :, 1:]}, "arrays are .* in 1..2, but .* before"),
        ({"images": IMAGES[1:2].astype(float)}, "arrays are .*float64.* but .*float32.* before"),
        ({"images": IMAGES[1:2], "loss": np.zeros(1)}, "arrays are .*loss.* but .* before"),
        ({"images": IMAGES[1:2], "loss": np.zeros(2)}, "loss must be 1 rows of numbers in 1..2"),
        ({"images": IMAGES[1:2].astype(object)}, "images must be 1 rows of numbers .* is object"),
        ({"images": IMAGES[1:2].astype(">f4")}, "images must be 1 rows of numbers .* is >f4"),
    ],
)
def test_batches_of_one_store_are_alike(tmp_path, arrays, message):
    with closing(writer(tmp_path / "s", IMAGES)) as made:
        made.write(0, {"images": IMAGES[:1]}, seconds=1)
        with pytest.raises(UserError, match=message):
            made.write(1, arrays, seconds=1)


def test_what_cannot_be_synced_on_some_file_systems_is_a_folder_alone(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    atomic.sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        atomic.write_text(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []  # nor is a half left


def test_the_old_store_is_put_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    old = written(tmp_path / "s", IMAGES, runs=[(0, 4)], seed=1)
    before = contents(old.folder)
    begun(tmp_path / "s")

    def refuse(source, target):
        raise OSError(errno.EROFS, "Read-only file system", str(target))

    with monkeypatch.context() as patched:
        # Not of the sealed batches.
        patched.setattr(os, "replace", lambda a, b: refuse(a, b) if a.is_dir() else a.rename(b))
        with pytest.raises(UserError, match="s: Read-only file system"):
            finished(tmp_path / "s")
    assert contents(open_stage(tmp_path / "s").folder) == before
    assert finished(tmp_path / "s") == finished(tmp_path / "whole")
