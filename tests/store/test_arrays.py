"""What zarr would open, but no store holds, is refused before zarr sees it: in one line."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from tiny_stores import resealed, written

from puriflow.errors import UserError
from puriflow.store import open_stage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    images = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    return written(tmp_path_factory.mktemp("stores") / "s", images, runs=[(0, 3)])


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the store."""
    return Path(shutil.copytree(made.folder, tmp_path / "s"))


def refused(folder, match, array="images"):
    """Both by a verified opening, and by who reads an array without it."""
    resealed(folder)
    with pytest.raises(UserError, match=match) as error:
        open_stage(folder)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=match):
        open_stage(folder, verify=False).read(array)


def sharding(said):
    return said["codecs"][0]["configuration"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda said: said.update(shape=[4, 3, 8, 8]), r"says float32 \[4, 3, 8, 8\], but the man"),
        (lambda said: said.update(shape=[3, 3, 8]), r"says float32 \[3, 3, 8\], but the manifest"),
        (lambda said: said.update(data_type="float64"), "says float64"),
        (lambda said: said.update(data_type="string"), "'data_type'"),
        (lambda said: said.update(data_type={"name": "numpy.object"}), "'data_type'"),
        (lambda said: said.update(zarr_format=2), "'zarr_format'"),
        (lambda said: said.update(node_type="group"), "'node_type'"),
        (lambda said: said.update(codecs=[]), "'codecs'"),
        (lambda said: said.update(codecs=[{"name": "numcodecs.pickle"}]), "'codecs.0.name'"),
        (lambda said: sharding(said)["codecs"].append({"name": "numcodecs.pickle"}), "codecs.3"),
        (lambda said: sharding(said).update(index_codecs=[{"name": "evil"}]), "index_codecs.0"),
        (lambda said: said.update(storage_transformers=[{"name": "x"}]), "storage_transformers"),
        (lambda said: sharding(said).update(chunk_shape=[10**9, 3, 8, 8]), "are not of a store"),
        (lambda said: sharding(said).update(chunk_shape=[0, 3, 8, 8]), "are not of a store"),
        (
            lambda said: said["chunk_grid"]["configuration"].update(chunk_shape=[10**12, 3, 8, 8]),
            "are not of a store",
        ),
        (lambda said: said.pop("shape"), "'shape': Field required"),
        (lambda said: sharding(said).update(index_location="middle"), "images was damaged"),
        (lambda said: said.update(dimension_names=[1]), "images was damaged"),
    ],
)
def test_a_zarr_json_that_is_not_ours(folder, edit, message):
    file = folder / "images.zarr" / "images" / "zarr.json"
    said = json.loads(file.read_text())
    edit(said)
    file.write_text(json.dumps(said))
    refused(folder, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "should be a valid dictionary"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 20_000, "nested too deep|is not JSON"),
    ],
)
@pytest.mark.parametrize("array", ["images", "label", "index"])
def test_a_zarr_json_that_is_no_zarr(folder, content, message, array):
    (folder / "images.zarr" / array / "zarr.json").write_bytes(content)
    refused(folder, f"{array}/zarr.json.*({message})", array)


def test_labels_and_indices_are_as_many_as_the_samples(folder):
    file = folder / "images.zarr" / "label" / "zarr.json"
    file.write_text(file.read_text().replace('"int64"', '"int32"'))
    refused(folder, "label/zarr.json says int32", "label")


def test_a_pickle_of_zarr_2_is_not_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    array = folder / "images.zarr" / "images"
    shutil.rmtree(array)
    zarr.create_array(array, shape=(3, 3, 8, 8), dtype="f4", zarr_format=2)
    said = {**json.loads((array / ".zarray").read_text()), "dtype": "|O", "fill_value": None}
    said |= {"filters": [{"id": "pickle", "protocol": 5}], "chunks": [3, 3, 8, 8]}
    (array / ".zarray").write_text(json.dumps(said | {"compressor": None}))
    (array / "0.0.0.0").write_bytes(pickle.dumps(Evil()))
    refused(folder, r"images/zarr\.json is missing")
    assert not (tmp_path / "ran").exists()


def test_what_has_no_file_is_not_made_up(folder):
    """Zarr would give its fill value, 0 for a label."""
    (folder / "images.zarr" / "label" / "c" / "0").unlink()
    refused(folder, "label/c/0 is missing", "label")


def test_damage_since_it_was_verified_is_one_line(folder):
    stage = open_stage(folder)
    file = stage.store / "images" / "c" / "0" / "0" / "0" / "0"
    file.write_bytes(bytes(100) + file.read_bytes()[100:])
    with pytest.raises(UserError, match=r"images was damaged \(.*run `puriflow repair "):
        stage.read("images")


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"\xff", b"[" * 20_000, b"null", b"7", b'{"images": 1}'),
        *(b'{"seconds": "x", "images": 1}', b'{"seconds": 1, "images": 0}'),
        *(b'{"seconds": %s, "images": 1}' % number for number in (b"NaN", b"1e999", b"-1")),
    ],
)
def test_a_broken_timing_is_no_time(folder, text):
    (folder / "timing.json").write_bytes(text)
    assert open_stage(folder).seconds_per_image is None


def test_an_unreadable_timing_is_no_time(folder):
    (folder / "timing.json").unlink()
    assert open_stage(folder).seconds_per_image is None
    (folder / "timing.json").mkdir()
    assert open_stage(folder).seconds_per_image is None
