import shutil
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from tiny_stores import contents, writer, written

from puriflow import atomic
from puriflow.errors import UserError
from puriflow.store import batches, open_stage


@pytest.fixture
def images():
    return np.random.default_rng(0).random((11, 3, 24, 24), dtype=np.float32)


def data_file(stage) -> Path:
    return next(f for f in sorted((stage.store / "images" / "c").rglob("*")) if f.is_file())


def test_what_is_written_is_read_back(tmp_path, images):
    stage = open_stage(written(tmp_path / "s", images).folder)
    np.testing.assert_array_equal(stage.read("images"), images)
    np.testing.assert_array_equal(stage.read("images", 3, 5), images[3:5])
    np.testing.assert_array_equal(stage.read("index"), 100 + np.arange(11))
    assert stage.count == 11
    assert stage.seconds_per_image == pytest.approx(1.5 / 11)


def test_xarray_opens_it_in_one_line(tmp_path, images, recwarn):
    stage = written(tmp_path / "s", images)
    data = xr.open_zarr(stage.store, consolidated=False)
    assert data.images.dims == ("sample", "channel", "y", "x")
    assert set(data.images.coords) == {"label", "index"}
    np.testing.assert_array_equal(data.images.isel(sample=2), images[2])
    assert data.attrs["puriflow"]["stage"] == "restore"
    assert not [w for w in recwarn if "zarr" in str(w.message).lower()]


def test_every_array_is_sharded_and_has_a_checksum_in_every_chunk(tmp_path, images):
    stage = written(tmp_path / "s", images)
    group = zarr.open_group(stage.store, mode="r")
    for name in ("images", "loss", "label", "index"):
        array = group[name]
        assert array.metadata.zarr_format == 3
        assert array.shards is not None
        assert "Crc32cCodec" in [type(c).__name__ for c in array.compressors]
    assert np.isnan(group["images"].fill_value)


def test_bytes_do_not_depend_on_batches(tmp_path, images):
    one = written(tmp_path / "a", images)
    other = written(tmp_path / "b", images, runs=[(0, 1), (1, 9), (9, 11)])
    assert contents(one.folder) == contents(other.folder)


def test_several_shards_are_written_one_at_a_time(tmp_path, images, monkeypatch):
    whole = written(tmp_path / "a", images)
    with monkeypatch.context() as patched:
        patched.setattr("puriflow.store.arrays.CHUNK_BYTES", 2 * images[0].nbytes)
        patched.setattr("puriflow.store.arrays.SHARD_BYTES", 4 * images[0].nbytes)
        cut = written(tmp_path / "b", images)
    group = zarr.open_group(cut.store, mode="r")
    assert group["images"].chunks[0] == 2
    assert group["images"].shards[0] == 4
    assert len([f for f in (cut.store / "images" / "c").rglob("*") if f.is_file()]) == 3
    np.testing.assert_array_equal(cut.read("images"), whole.read("images"))
    np.testing.assert_array_equal(cut.read("loss"), whole.read("loss"))


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_bit_is_found_by_the_manifest_and_by_the_chunk(tmp_path, images, where):
    stage = written(tmp_path / "s", images)
    file = data_file(stage)
    damaged = bytearray(file.read_bytes())
    damaged[int(where * len(damaged))] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="damaged; run `puriflow repair "):
        open_stage(stage.folder)
    # Also for a reader who does not know our manifest: never a silently wrong number.
    with pytest.raises((ValueError, RuntimeError)):
        xr.open_zarr(stage.store, consolidated=False).load()


def test_a_truncated_a_missing_and_an_added_file_are_found(tmp_path, images):
    whole = written(tmp_path / "whole", images)
    for name, damage, message in [
        ("truncated", lambda f: f.write_bytes(f.read_bytes()[:-100]), "damaged"),
        ("missing", Path.unlink, "is missing"),
        ("added", lambda f: f.with_name("7").write_bytes(b""), "not of this store"),
    ]:
        copy = tmp_path / name
        shutil.copytree(whole.folder, copy)
        damage(data_file(open_stage(copy)))
        with pytest.raises(UserError, match=message):
            open_stage(copy)


def test_an_unfinished_store_is_not_opened(tmp_path, images):
    stage = written(tmp_path / "s", images)
    (stage.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="was not finished"):
        open_stage(stage.folder)
    with pytest.raises(UserError, match="nowhere does not exist"):
        open_stage("nowhere")


def test_the_machine_is_in_the_manifest_and_not_in_what_the_next_stage_records(tmp_path, images):
    plain = written(tmp_path / "plain", images)
    here, there = (
        written(tmp_path / name, images, machine={"device": name, "threads": 1})
        for name in ("here", "there")
    )
    assert open_stage(here.folder).manifest["machine"] == {"device": "here", "threads": 1}
    assert here.manifest["files"] == there.manifest["files"]
    assert here.manifest != there.manifest
    assert here.identity == there.identity == plain.identity
    assert written(tmp_path / "else", images, seed=1).identity != here.identity
    assert written(tmp_path / "dark", images / 2).identity != here.identity


def test_work_goes_on_on_another_machine(tmp_path, images):
    first = writer(tmp_path / "s", images, machine={"device": "here"})
    first.write(0, {"images": images[:4]}, seconds=1)
    first.close()
    second = writer(tmp_path / "s", images, machine={"device": "there"})
    assert second.todo(4) == [(4, 8), (8, 11)]


def test_work_goes_on_where_it_stopped(tmp_path, images):
    whole = written(tmp_path / "whole", images)
    first = writer(tmp_path / "s", images)
    first.write(0, {"images": images[:4], "loss": np.arange(4, dtype=np.float32)}, seconds=1)
    first.close()
    second = writer(tmp_path / "s", images)
    assert second.done() == {0, 1, 2, 3}
    with pytest.raises(RuntimeError, match="7 samples were not computed"):
        second.finish()
    second.write(4, {"images": images[4:], "loss": np.arange(4, 11, dtype=np.float32)}, seconds=1)
    assert contents(second.finish().folder) == contents(whole.folder)
    assert not (tmp_path / ".s.work").exists()


def test_work_of_other_parameters_is_never_resumed(tmp_path, images):
    with closing(writer(tmp_path / "s", images)) as first:
        first.write(0, {"images": images[:4]}, seconds=1)
    with closing(writer(tmp_path / "s", images, code="0" * 64)) as second:
        assert second.done() == set()
    with closing(writer(tmp_path / "s", images)) as third:
        assert third.done() == set()  # and it is gone


def test_only_a_store_is_ever_replaced(tmp_path, images):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"holds 'holiday\.jpg'"):
        writer(photos, images)
    assert (photos / "holiday.jpg").read_bytes() == b"precious"
    with pytest.raises(UserError, match="is a file"):
        writer(photos / "holiday.jpg", images)
    again = written(tmp_path / "s", images)
    assert contents(written(again.folder, images).folder) == contents(again.folder)


def test_an_array_that_is_not_there_is_named(tmp_path, images):
    with pytest.raises(UserError, match=r"'logits'.*known are images, loss"):
        written(tmp_path / "s", images).read("logits")


def test_nan_never_gets_into_a_store(tmp_path, images):
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="NaN or infinity"):
        writer(tmp_path / "s", images).write(0, {"images": images}, seconds=1)


def test_positions_are_cut_into_runs_of_neighbours():
    assert list(batches([0, 1, 2, 5, 6, 9], 2)) == [[0, 1], [2], [5, 6], [9]]
    assert list(batches([], 4)) == []


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path):
    """Who waited for it would hold a file that nobody sees any more."""
    path = tmp_path / "work" / "lock"
    first = atomic.lock(path, wait=False)
    assert atomic.lock(path, wait=False) is None
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(atomic.lock(path, wait=True)))
    waiting.start()
    # At once, as `shutil.rmtree` is not: what waits may make the folder anew meanwhile.
    path.parent.rename(tmp_path / "removed")
    first.close()
    waiting.join(timeout=30)
    assert atomic.lock(path, wait=False) is None
    taken[0].close()
    atomic.lock(path, wait=False).close()


def test_a_replaced_file_is_there_whole_or_as_it_was(tmp_path):
    def interrupted():
        with atomic.Replacing(tmp_path / "f") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    atomic.write_text(tmp_path / "f", "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"
