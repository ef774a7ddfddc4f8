"""A manifest is checked when it is read, and no flipped bit and no edit of it goes unnoticed."""

import json

import numpy as np
import pytest
from tiny_stores import made_by

from puriflow.errors import UserError
from puriflow.store import Writer, open_stage, read_manifest
from puriflow.store import manifest as manifests


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A store of two images, with something under every key of its manifest."""
    writer = Writer(
        tmp_path_factory.mktemp("stores") / "s",
        "images",
        labels=np.arange(2),
        indices=np.arange(2),
        provenance=made_by(
            "restore",
            parameters={"restorer": {"kind": "edsr", "scale": 1e22, 3: [0.1, None, True]}},
            seed=0,
            weights={"w.safetensors": "0" * 64},
            versions={"torch": "2.10"},
            upstream={"results/images": "1" * 64},
        ),
        machine={"device": "cpu", "threads": 1},
    )
    writer.write(0, {"images": np.zeros((2, 3, 4, 4), np.float32)}, seconds=1)
    return writer.finish()


@pytest.fixture
def file(stage):
    """Its manifest, which is as it was afterwards."""
    file = stage.folder / "manifest.json"
    whole = file.read_bytes()
    yield file
    file.write_bytes(whole)


def refused(file, match):
    with pytest.raises(UserError, match=match) as error:
        open_stage(file.parent)
    assert "\n" not in str(error.value)


def test_a_flipped_bit_is_noticed(file):
    whole = file.read_bytes()
    for position in range(0, 8 * len(whole), 41):  # all take half a minute
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        file.write_bytes(damaged)
        refused(file, f"^store {file.parent}")


def edits(value, path=()):
    """Every way to change, add or leave out something in a nested value, and where."""
    if isinstance(value, dict):
        yield (*path, "more"), {**value, "more": 1}
        for key, inner in value.items():
            yield (*path, key), {k: v for k, v in value.items() if k != key}
            for where, edited in edits(inner, (*path, key)):
                yield where, {**value, key: edited}
    elif isinstance(value, list):
        yield path, [*value, 1]
        for i, inner in enumerate(value):
            for where, edited in edits(inner, (*path, i)):
                yield where, [*value[:i], edited, *value[i + 1 :]]
    else:
        others = [None, True, 7, -1, 0.5, "", "../../elsewhere", "2" * 64, [], {}]
        yield from ((path, other) for other in others if other != value or other is not value)


def test_every_edit_is_noticed(file):
    found = list(edits(json.loads(file.read_text())))
    assert len(found) > 300
    for where, edited in found:
        file.write_text(manifests.as_text(edited))
        try:
            refused(file, f"^store {file.parent}")
        except pytest.fail.Exception:
            pytest.fail(f"an edit of {where} went unnoticed")


def resealed(file, **changes):
    """Write a manifest that says something else, with the digest of that."""
    said = {**json.loads(file.read_text()), **changes}
    file.write_text(manifests.as_text({**said, "digest": manifests.digest(said)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": "../other.zarr"}, "'store': String should match"),
        ({"store": 3}, "'store': Input should be a valid string"),
        ({"store": "a.zarr\n"}, "'store': String should match"),
        ({"n": -1}, "'n': Input should be greater than or equal to 0"),
        ({"n": 3}, "'images' is not of 3 samples"),
        ({"n": True}, "'n': Input should be a valid integer"),
        ({"files": {"c": "123"}}, "'files.c': String should match"),
        ({"files": []}, "'files': Input should be a valid dictionary"),
        ({"arrays": {"images": {"shape": [2], "dtype": "object"}}}, "'arrays.images.dtype'"),
        ({"arrays": {"images": {"shape": [], "dtype": "bool"}}}, "'arrays.images.shape'"),
        ({"weights": {"w": 3}}, "'weights.w': Input should be a valid string"),
        ({"upstream": ["a"]}, "'upstream': Input should be a valid dictionary"),
        ({"seed": "0"}, "'seed'"),
        ({"more\n": 1}, r"'more\\n': Extra inputs are not permitted"),
    ],
)
def test_what_it_says_is_checked(file, changes, message):
    resealed(file, **changes)
    refused(file, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b"[" * 20_000 + b"]" * 20_000, "is nested too deep"),
        (b'{"schema": 2, "a": ' + b"[" * 600 + b"]" * 600 + b"}", "is nested too deep|'a'"),
        (b"[]", "schema None, but 2 is known"),
        (b"3", "schema None, but 2 is known"),
        (b'{"schema": "2"}', "schema '2', but 2 is known"),
        (b'{"schema": true}', "schema True, but 2 is known"),
        (b'{"schema": 99}', "schema 99, but 2 is known"),
        (b'{"schema": 1, "n": 4}', "schema 1 is of an earlier version; run `puriflow repair "),
        (b'{"schema": 2}', "'stage': Field required"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_what_is_no_manifest_is_said_in_one_line(file, content, message):
    file.write_bytes(content)
    refused(file, message)


def test_a_huge_one_is_not_read(file, monkeypatch):
    monkeypatch.setattr(manifests, "LARGEST", 100)
    refused(file, "is larger than 100 bytes")


def test_the_same_text_with_other_spaces_is_another(file):
    file.write_text(json.dumps(json.loads(file.read_text())))
    refused(file, "was changed or damaged")


def test_neither_machine_nor_digest_are_in_what_the_next_stage_records(stage, file):
    resealed(file, machine={"device": "another"})
    other = open_stage(file.parent)
    assert other.manifest["digest"] != stage.manifest["digest"]
    assert other.identity == stage.identity
    resealed(file, seed=1)
    assert open_stage(file.parent).identity != stage.identity


def test_it_is_read_as_it_was_written(stage):
    assert read_manifest(stage.folder)["parameters"]["restorer"]["3"] == [0.1, None, True]
