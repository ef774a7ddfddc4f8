"""Where a store may be written: only a store is ever replaced, and it is known at once."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_stores import contents, writer, written

from puriflow.errors import UserError
from puriflow.registry import part_of
from puriflow.stages.restore import write_restored
from puriflow.store import open_stage

BICUBIC = part_of("restorer", "bicubic-x2", {"kind": "bicubic", "scale": 2})
CPU = torch.device("cpu")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def store(tmp_path, images):
    return written(tmp_path / "s", images, runs=[(0, 2)])


def tree(folder):
    return {str(f.relative_to(folder)): f.is_file() and f.read_bytes() for f in folder.rglob("*")}


def add(name, content=b"precious"):
    def added(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return added


def without_manifest(folder):
    (folder / "manifest.json").unlink()


def of_another_program(folder):
    (folder / "manifest.json").write_text('{"name": "my app", "schema": 1, "icons": []}')


def flipped(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"seed": null', '"seed": 1'))


def only_a_zarr(folder):
    shutil.rmtree(folder)
    add("mine.zarr/c/0")(folder)


def only_a_foreign_manifest(folder):
    shutil.rmtree(folder)
    add("manifest.json", b'{"store": "images.zarr", "n": 3}')(folder)


@pytest.mark.parametrize(
    ("change", "stranger"),
    [
        (add("holiday.jpg"), "holiday.jpg"),
        (add("mine.zarr/c/0"), "mine.zarr"),
        (add("images.zarr/mine/c/0"), "images.zarr/mine"),
        (add("images.zarr/images/notes.txt"), "images.zarr/images/notes.txt"),
        (lambda folder: (folder / "album").mkdir(), "album"),
        (lambda folder: (folder / "link").symlink_to("/nowhere"), "link"),
        (without_manifest, "images.zarr"),
        (of_another_program, "images.zarr"),
        (flipped, "images.zarr"),
        (only_a_zarr, "mine.zarr"),
        (only_a_foreign_manifest, "manifest.json"),
    ],
)
def test_a_folder_of_anything_else_is_refused_and_stays(store, images, change, stranger):
    change(store.folder)
    before = tree(store.folder)
    with pytest.raises(UserError, match=f"s holds '{stranger}', which is not of a store: name a"):
        writer(store.folder, images)
    assert tree(store.folder) == before
    assert not (store.folder.parent / ".s.work").exists()


def test_what_came_while_it_was_computed_stays(tmp_path, images):
    made = writer(tmp_path / "s", images)
    made.write(0, {"images": images}, seconds=1)
    (tmp_path / "s").mkdir()
    add("holiday.jpg")(tmp_path / "s")
    with pytest.raises(UserError, match=r"holds 'holiday\.jpg'"):
        made.finish()
    assert (tmp_path / "s" / "holiday.jpg").read_bytes() == b"precious"
    (tmp_path / "s" / "holiday.jpg").unlink()
    assert open_stage(made.finish().folder).count == 2


def test_a_store_an_empty_folder_and_leftovers_of_ours_are_replaced(store, images):
    whole = contents(store.folder)
    for name in ("manifest", "timing"):
        add(f".{name}.json.{'0' * 32}.tmp")(store.folder)
    add(".snakemake_timestamp")(store.folder)
    written(store.folder, images, runs=[(0, 2)], seed=1)
    again = written(store.folder, images, runs=[(0, 2)])
    assert contents(again.folder) == whole
    (store.folder.parent / "empty").mkdir()
    written(store.folder.parent / "empty", images, runs=[(0, 2)])
    (data,) = (store.store / "images" / "c").rglob("0/0/0/0")
    data.unlink()  # also a damaged one, of which less is there
    assert contents(written(store.folder, images, runs=[(0, 2)]).folder) == whole


def test_a_store_of_an_earlier_version_is_replaced(store, images):
    said = json.loads((store.folder / "manifest.json").read_text())
    del said["digest"]
    (store.folder / "manifest.json").write_text(json.dumps({**said, "schema": 1}))
    with pytest.raises(UserError, match="earlier version; run `puriflow repair "):
        open_stage(store.folder)
    open_stage(written(store.folder, images, runs=[(0, 2)]).folder)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("link", "link is a link: name the folder that it leads to"),
        ("dangling", "dangling is a link: name"),
        ("file", "file is a file, not the folder of a store"),
        ("file/s", "Not a directory"),
        ("/proc/nowhere/s", "No such file or directory"),
        ("loop/s", "loop"),
        ("s/inner", "s/inner lies in the store .*s: name a folder outside"),
        ("s/images.zarr/inner", "lies in the store"),
        ("w", r"\.w\.work is a link, but must lie beside the store"),
        ("l", r"lock: is a link, which a lock must not be"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_replaced_is_known_before_anything_is_computed(
    store, images, tmp_path, out, message
):
    (tmp_path / "link").symlink_to("s")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / ".w.work").symlink_to("s")
    (tmp_path / ".l.work").mkdir()
    (tmp_path / ".l.work" / "lock").symlink_to(tmp_path / "made")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        writer(tmp_path / out, images)
    assert "\n" not in str(error.value)
    assert tree(tmp_path) == before


def test_the_working_folder_is_one_like_others(tmp_path, images, monkeypatch):
    add("thesis.tex")(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(UserError, match=r"^\. holds 'thesis\.tex', which is not of a store"):
        written(Path(), images, runs=[(0, 2)])


@pytest.mark.parametrize("name", ["mine", "new"])
def test_a_folder_behind_one_that_is_not_there_is_named(tmp_path, images, name):
    """`nowhere/../mine` is `mine`, but nobody sees it there before `nowhere` is made."""
    add("thesis.tex")(tmp_path / "mine")
    message = f"leads through a folder that is not there: name {tmp_path / name}$"
    with pytest.raises(UserError, match=message):
        written(tmp_path / "nowhere" / ".." / name, images, runs=[(0, 2)])
    assert tree(tmp_path) == {"mine": False, "mine/thesis.tex": b"precious"}


def test_work_is_not_kept_behind_a_link(tmp_path, images):
    begun = writer(tmp_path / "s", images)
    begun.close()
    begun.work.rmdir()
    add("00000000-00000002.batch")(tmp_path / "mine")
    begun.work.symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="is a link, but must lie beside the store: remove it"):
        written(tmp_path / "s", images, runs=[(0, 2)])
    assert tree(tmp_path / "mine") == {"00000000-00000002.batch": b"precious"}


def test_a_mount_point_is_not_replaced(tmp_path, images, monkeypatch):
    (tmp_path / "s").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "s")
    with pytest.raises(UserError, match="s is a mount point: name a folder in it"):
        writer(tmp_path / "s", images)


@pytest.mark.parametrize("out", ["a/b", "a/b/c", "a", ".", "link/b", "a/../a/b", "link/b/c/d"])
def test_a_stage_never_takes_its_source_s_place(tmp_path, images, out, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("link").symlink_to("a")
    source = written(Path("a/b"), images, runs=[(0, 2)])
    before = tree(tmp_path)
    with pytest.raises(UserError, match="is, holds or lies in the source a/b: name another"):
        write_restored(source, Path(out), BICUBIC, device=CPU)
    assert tree(tmp_path) == before
    write_restored(source, Path("a/bc"), BICUBIC, device=CPU)


@pytest.mark.parametrize("room", [0.5, 1.5])  # of a batch: none fits, or they do and the whole not
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, room):
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    source = written(tmp_path / "source", images, runs=[(0, 3)])
    whole = write_restored(source, tmp_path / "whole", BICUBIC, device=CPU)
    old = written(tmp_path / "s", images, runs=[(0, 3)])
    before = contents(old.folder)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room * images[0].nbytes), limit[1]))
        with pytest.raises(UserError, match=r"s.*: File too large"):
            write_restored(source, old.folder, BICUBIC, device=CPU, batch=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert contents(old.folder) == before  # until the new one is whole
    done = write_restored(source, old.folder, BICUBIC, device=CPU, batch=1)
    assert contents(done.folder) == contents(whole.folder)
    assert not (tmp_path / ".s.work").exists()
