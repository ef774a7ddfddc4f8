"""The folder of results: no file of anybody else is lost, and no run loses its own."""

import hashlib
import json
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from puriflow.image_files import command as command_module
from puriflow.image_files import record as record_module

RNG = np.random.default_rng(0)
BICUBIC = ("--restorer", "bicubic")


def picture(path, side=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def contents(folder):
    """Everything in a folder, with its bytes."""
    return {
        str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None
        for f in folder.rglob("*")
    }


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of somebody's, who is in its parent: images, a Zarr store, and all else."""
    folder = tmp_path / "mine"
    picture(folder / "a.png")
    picture(folder / "sub" / "b.png")
    (folder / "thesis.txt").write_text("ten years")
    for name in ("compare.png", ".purifying", ".a.png.tmp"):
        (folder / name).write_text("precious")
    (folder / "sub" / ".purifying").mkdir()
    (folder / "sub" / ".purifying" / "thesis.txt").write_text("as well")
    zarr.create_array(folder / "c.zarr", data=np.full((8, 8, 3), 9, np.uint8))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    return folder


PLACES = {
    # An image, and where its result shall go; whether that is refused
    "itself": ("mine", "mine", True),
    "through a link": ("mine", "link", True),
    "from a link": ("link", "mine", True),
    "a dot": ("mine", "./mine/.", True),
    "two dots": ("mine", "mine/sub/..", True),
    "two dots behind": ("mine/sub/..", "mine", True),
    "the file": ("mine/a.png", "mine/a.png", True),
    "below the file": ("mine/a.png", "mine/a.png/out", True),
    "where the file is": ("mine/a.png", "mine", True),
    "the store": ("mine/c.zarr", "mine/c.zarr", True),
    "inside the store": ("mine/c.zarr", "mine/c.zarr/c/out", True),
    "inside the store by a link": ("link/c.zarr", "mine/c.zarr/out", True),
    "where the store is": ("mine/c.zarr", "mine", True),
    "above": ("mine/sub", "mine", False),
    "inside": ("mine", "mine/out", False),
    "the working folder": ("mine/sub/b.png", ".", False),
    "a link that leads nowhere": ("mine/sub", "nowhere", True),
    "a file": ("mine/sub", "mine/thesis.txt", True),
}


@pytest.mark.parametrize("name", PLACES)
def test_nothing_is_lost_wherever_the_results_go(mine, command, name):
    source, out, refused = PLACES[name]
    (mine.parent / "nowhere").symlink_to("gone")
    if name in ("itself", "inside", "above"):  # a sheet that is not ours stays in the way
        (mine / "compare.png").unlink()
    before = contents(mine)
    status, said = command(source, *BICUBIC, "--out", out)
    assert (status, len(said.strip().splitlines()) == 1) == (2 * refused, refused), said
    after = contents(mine)
    assert {file: after.get(file) for file in before} == before
    new = after.keys() - before.keys()
    assert not {file for file in new if file.endswith((".tmp", ".purifying"))}
    if refused:
        assert {Path(file).name for file in new} <= {"purified.jsonl"}


def test_a_store_named_by_two_dots_has_its_name(mine, command, tmp_path):
    status, said = command("mine/c.zarr/c/..", *BICUBIC, "--out", "out")
    assert status == 0, said
    assert (tmp_path / "out" / "c.zarr" / "zarr.json").is_file()


def test_a_link_to_a_folder_is_followed(mine, command, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").symlink_to(elsewhere)
    for done in ("2 files in out\n", "2 done before"):
        status, said = command("mine/a.png", "mine/sub", *BICUBIC, "--out", "out")
        assert (status, done in said) == (0, True), said
    assert sorted(f.name for f in elsewhere.iterdir()) == ["a.png", "b.png", "purified.jsonl"]


def test_a_folder_of_results_that_leads_out_of_it_is_refused_before_anything(
    mine, command, tmp_path, monkeypatch
):
    monkeypatch.setattr(command_module, "write_purified", lambda *_: 1 / 0)
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to("../elsewhere")
    (mine / "compare.png").unlink()
    status, said = command("mine", *BICUBIC, "--out", "out")
    assert (status, "folder out/sub leads out of out" in said) == (2, True), said
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_folder_that_may_not_be_written_is_said_before_anything(mine, command, monkeypatch):
    monkeypatch.setattr(command_module, "write_purified", lambda *_: 1 / 0)
    monkeypatch.setattr(record_module.os, "access", lambda path, mode: path.name != "sub")
    (mine / "compare.png").unlink()
    status, said = command("mine", *BICUBIC, "--out", "out")
    assert (status, "folder out/sub cannot be written: Permission denied" in said) == (2, True)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_record_that_is_no_file_of_its_own_is_refused(mine, command, tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "empty.txt").touch()
    file = tmp_path / "out" / "purified.jsonl"
    {"link": lambda: file.symlink_to("../empty.txt"), "pipe": lambda: os.mkfifo(file),
     "folder": file.mkdir}[kind]()  # fmt: skip
    status, said = command("mine/a.png", *BICUBIC, "--out", "out")
    assert (status, "purified.jsonl is no file of its own" in said) == (2, True), said
    assert (tmp_path / "empty.txt").read_text() == ""


def test_a_hard_link_of_a_result_is_not_written_through(mine, command, tmp_path):
    given = ("mine/sub", *BICUBIC, "--compare", "--out", "out")
    assert command(*given)[0] == 0
    kept = tmp_path / "kept.png"
    os.link(tmp_path / "out" / "compare.png", kept)
    before = kept.read_bytes()
    picture(mine / "sub" / "c.png")
    assert command(*given)[0] == 0  # a new sheet
    assert kept.read_bytes() == before != (tmp_path / "out" / "compare.png").read_bytes()
    os.link(mine / "a.png", tmp_path / "out" / "a.png")
    status, said = command("mine/a.png", *BICUBIC, "--out", "out")
    assert (status, "a.png exists and was not made here" in said) == (2, True)


def test_what_appears_meanwhile_is_not_replaced(mine, command, tmp_path, monkeypatch):
    compute = command_module.open_images

    def slow(path):
        (tmp_path / "out" / "a.png").write_text("somebody's")
        return compute(path)

    monkeypatch.setattr(command_module, "open_images", slow)
    status, said = command("mine/a.png", *BICUBIC, "--out", "out")
    assert (status, "out/a.png has appeared meanwhile" in said) == (2, True), said
    assert (tmp_path / "out" / "a.png").read_text() == "somebody's"


@pytest.mark.parametrize("side", [32, 40])
def test_a_source_that_changes_meanwhile_leaves_no_result(mine, command, monkeypatch, side):
    compute = command_module.open_images

    def changing(path):
        file = compute(path) if side == 32 else None
        picture(mine / "a.png", side)
        return file or compute(path)

    monkeypatch.setattr(command_module, "open_images", changing)
    status, said = command("mine/a.png", *BICUBIC, "--out", "out")
    assert (status, "mine/a.png has changed since this run began" in said) == (2, True), said
    assert [f.name for f in Path("out").iterdir()] == ["purified.jsonl"]


def test_a_result_inside_another_is_refused(tmp_path, command):
    picture(tmp_path / "in" / "a.png" / "b.png")
    picture(tmp_path / "a.png")
    status, said = command(tmp_path / "in", tmp_path / "a.png", *BICUBIC, "--out", tmp_path / "out")
    assert (status, "would be inside a.png, which is a result itself" in said) == (2, True), said


def test_names_with_a_newline_and_worse_are_one_line_each(tmp_path, command):
    picture(tmp_path / "in" / "a\nb\x1b[31m.png")
    for done in ("1 files in", "1 done before"):
        status, said = command(tmp_path / "in", *BICUBIC, "--out", tmp_path / "out")
        assert (status, done in said) == (0, True), said
    (tmp_path / "in" / "a\nb\x1b[31m.png").write_text("none")
    status, said = command(tmp_path / "in", *BICUBIC, "--out", tmp_path / "out")
    assert (status, len(said.splitlines()), "\x1b" in said) == (2, 1, False), said


# The record


def lines(file):
    return file.read_bytes().splitlines(keepends=True)


def test_every_flipped_bit_of_the_record_is_found_and_nothing_is_taken_for_another(
    tmp_path, command, storm
):
    """The seed of a result is one bit from another one: 5 is 0b110101, 7 is 0b110111."""
    picture(tmp_path / "a.png")
    chain = ("--restorer", "edsr", "--purifier", "little")
    out = tmp_path / "out"
    assert command(tmp_path / "a.png", *chain, "--seed", "5", "--out", out)[0] == 0
    whole = (out / "purified.jsonl").read_bytes()
    image = (out / "a.png").read_bytes()
    seed = whole.index(b'"seed": 5') + 8
    flips = [
        (seed, 1),
        *(
            (int(i), int(b))
            for i, b in RNG.integers((0, 0), (len(whole), 8), (100 if storm else 6, 2))
        ),
    ]
    for place, bit in flips:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        (out / "purified.jsonl").write_bytes(damaged)
        for given in ("5", "7"):
            status, said = command(tmp_path / "a.png", *chain, "--seed", given, "--out", out)
            harmless = bytes(damaged).split() == whole.split()  # the newline became a blank
            assert status == 0 if harmless and given == "5" else status == 2, (place, bit, said)
            assert "Traceback" not in said
        assert (out / "a.png").read_bytes() == image


@pytest.mark.parametrize(
    "line",
    [
        b"[1, 2]", b"5", b'"text"', b"null", b"{}", b"[" * 20_000, b"\xff\xfe", b"",
        b'{"file": 5, "sha256": [], "made_by": {}, "check": ""}',
        b'{"file": "../a.png", "sha256": "0", "made_by": {}}',
        b'{"file": "a.png", "sha256": "0", "made_by": 5}',
    ],
)  # fmt: skip
def test_lines_that_say_nothing_are_said_and_left_out(tmp_path, command, line):
    picture(tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    assert command(tmp_path / "in", *BICUBIC, "--out", out)[0] == 0
    with (out / "purified.jsonl").open("ab") as file:
        file.write(line + b"\n")
    picture(tmp_path / "in" / "b.png")
    status, said = command(tmp_path / "in", *BICUBIC, "--out", out)
    assert (status, "1 done before" in said) == (0, True), said
    assert "purified.jsonl: line 2 cut off by a kill or damaged, and left out\n" in said


def test_an_entry_that_points_outside_touches_nothing(tmp_path, command):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "thesis.txt").write_text("precious")
    out = tmp_path / "out"
    assert command(tmp_path / "in", *BICUBIC, "--compare", "--out", out)[0] == 0
    digest = hashlib.sha256(b"precious").hexdigest()
    entry = {"file": "../thesis.txt", "sha256": digest, "made_by": {}}
    with (out / "purified.jsonl").open("a") as file:
        file.write(json.dumps({**entry, "check": record_module._check(entry)}) + "\n")
    assert command(tmp_path / "in", *BICUBIC, "--compare", "--out", out)[0] == 0
    assert (tmp_path / "thesis.txt").read_text() == "precious"


# Disks


@contextmanager
def room_for(size):
    """No file can have more bytes meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("ending", ["png", "npy", "npz", "zarr"])
def test_a_disk_that_fills_up_is_one_line_and_the_same_command_goes_on(tmp_path, command, ending):
    pixels = RNG.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels[:16, :16]).save(tmp_path / "in" / "a.png")
    file = tmp_path / "in" / f"b.{ending}"
    {
        "png": lambda: Image.fromarray(pixels).save(file),
        "npy": lambda: np.save(file, pixels),
        "npz": lambda: np.savez(file, pixels),
        "zarr": lambda: zarr.create_array(file, data=pixels),
    }[ending]()
    out = tmp_path / "out"
    with room_for(20_000):
        status, said = command(tmp_path / "in", *BICUBIC, "--out", out)
    assert (status, f"b.{ending} cannot be written" in said.splitlines()[-1]) == (2, True), said
    assert sorted(f.name for f in out.iterdir()) == ["a.png", "purified.jsonl"]
    status, said = command(tmp_path / "in", *BICUBIC, "--out", out)
    assert (status, "1 done before" in said) == (0, True), said


def test_a_record_that_cannot_be_written_leaves_no_result(tmp_path, command):
    picture(tmp_path / "a.png")
    given = (tmp_path / "a.png", *BICUBIC, "--out", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "purified.jsonl").write_bytes(b'{"file": "' + b" " * 5000)
    with room_for(5100):
        status, said = command(*given)
    assert (status, "Traceback" in said) == (2, False), said
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["purified.jsonl"]
    assert command(*given)[0] == 0


def test_without_a_home_files_are_purified(tmp_path, command, monkeypatch):
    monkeypatch.delenv("HOME")
    picture(tmp_path / "a.png")
    given = (*BICUBIC, "--compare", "--classifier", "wrn", "--out", tmp_path / "out")
    status, said = command(tmp_path / "a.png", *given)
    assert status == 0, said
