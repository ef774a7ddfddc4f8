"""Large images, whose tiles are kept: a killed run goes on at the tile, to the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from puriflow.image_files.purify import Purification
from puriflow.image_files.tiles import KeptTiles

CHAIN = ("--restorer", "edsr", "--purifier", "little")
TILES = 6  # of a photograph below: 3 wide, 2 high
# Purifies, and is killed when so many tiles are kept, or, without a limit, before any is removed.
KILLED = """
import os, signal
from puriflow.cli import main
from puriflow.image_files import command
from puriflow.image_files.tiles import KeptTiles
keep = KeptTiles.keep
def kept(self, *given):
    keep(self, *given)
    if str(len(list(self.folder.glob("*.tile")))) == os.environ["LIMIT"]:
        os.kill(os.getpid(), signal.SIGKILL)
KeptTiles.keep = kept
command.discard = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture
def computed(monkeypatch):
    """How many tiles were computed, call by call."""
    counts = []
    compute = Purification._computed

    def noted(self, tiles, sources):
        counts.append(len(tiles))
        return compute(self, tiles, sources)

    monkeypatch.setattr(Purification, "_computed", noted)
    return counts


def kill(track, limit, *arguments):
    """Run `puriflow purify` in a process of its own, which dies when so many tiles are kept.

    With a limit of None it dies when all of an image is written, and its tiles are to be removed.
    """
    given = ["purify", *map(str, arguments), "--config", str(track), "--gpus", "0"]
    environment = {**os.environ, "LIMIT": str(limit)}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *given], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def tiles_in(folder):
    return sorted(folder.glob(".*.tiles/*/*.tile"))


def test_a_run_that_was_killed_goes_on_at_the_tile(photo, tmp_path, command, computed, track):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert command(photo, *CHAIN, "--out", whole)[0] == 0
    assert sum(computed) == TILES
    assert sorted(file.name for file in whole.iterdir()) == ["photo.png", "purified.jsonl"]
    kill(track, 4, photo, *CHAIN, "--out", out)
    assert not (
        out / "photo.png"
    ).exists()  # nothing of it under its name before all of it is there
    assert len(tiles_in(out)) == 4
    computed.clear()
    status, said = command(photo, *CHAIN, "--out", out)
    assert (status, "4/6 tiles were done before" in said) == (0, True), said
    assert sum(computed) == TILES - 4
    assert (out / "photo.png").read_bytes() == (whole / "photo.png").read_bytes()
    assert sorted(file.name for file in out.iterdir()) == ["photo.png", "purified.jsonl"]


def test_tiles_that_a_kill_left_behind_their_image_are_removed(
    photo, tmp_path, command, computed, track
):
    out = tmp_path / "out"
    kill(track, None, photo, *CHAIN, "--out", out)
    assert (out / "photo.png").is_file()
    assert len(tiles_in(out)) == TILES
    status, said = command(photo, *CHAIN, "--out", out)
    assert (status, "1 done before" in said, computed) == (0, True, []), said
    assert sorted(file.name for file in out.iterdir()) == ["photo.png", "purified.jsonl"]


CHANGES = {
    "the seed": ("--seed", "7"),
    "a part": ("--restorer", "bicubic"),
    "the image": (),
}


@pytest.mark.parametrize("what", CHANGES)
def test_tiles_of_another_command_are_not_taken(photo, tmp_path, command, computed, track, what):
    out = tmp_path / "out"
    kill(track, 3, photo, *CHAIN, "--out", out)
    if what == "the image":
        pixels = np.array(Image.open(photo))
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(photo)
    assert command(photo, *CHAIN, *CHANGES[what], "--out", tmp_path / "whole")[0] == 0
    computed.clear()
    status, said = command(photo, *CHAIN, *CHANGES[what], "--out", out)
    assert (status, "done before" in said, sum(computed)) == (0, False, TILES), said
    assert (out / "photo.png").read_bytes() == (tmp_path / "whole" / "photo.png").read_bytes()
    assert tiles_in(out) == []


def test_a_run_on_another_file_leaves_the_tiles(photo, tmp_path, command, computed, track):
    out, other = tmp_path / "out", tmp_path / "other.png"
    kill(track, 5, photo, *CHAIN, "--out", out)
    Image.open(photo).crop((0, 0, 32, 32)).save(other)
    assert command(other, *CHAIN, "--out", out)[0] == 0
    computed.clear()
    assert command(photo, *CHAIN, "--out", out)[0] == 0
    assert sum(computed) == TILES - 5


def test_a_flipped_bit_of_a_tile_is_found_and_the_tile_made_anew(
    photo, tmp_path, command, computed, track, storm
):
    whole = tmp_path / "whole"
    assert command(photo, *CHAIN, "--out", whole)[0] == 0
    rng = np.random.default_rng(None if storm else 0)
    for turn in range(20 if storm else 1):
        out = tmp_path / f"out-{turn}"
        kill(track, 2, photo, *CHAIN, "--out", out)
        file = tiles_in(out)[int(rng.integers(2))]
        content = bytearray(file.read_bytes())
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        file.write_bytes(content)
        computed.clear()
        status, said = command(photo, *CHAIN, "--out", out)
        assert (status, f"{file} was damaged" in said, sum(computed)) == (0, True, TILES - 1), said
        assert (out / "photo.png").read_bytes() == (whole / "photo.png").read_bytes()


def test_images_of_one_array_keep_tiles_of_their_own(tmp_path, command, computed, track):
    file, out = tmp_path / "two.npy", tmp_path / "out"
    np.save(file, np.random.default_rng(0).random((2, 300, 100, 3), dtype=np.float32))
    assert command(file, *CHAIN, "--out", tmp_path / "whole")[0] == 0
    assert sum(computed) == 4
    kill(track, 3, file, *CHAIN, "--out", out)
    computed.clear()
    assert command(file, *CHAIN, "--out", out)[0] == 0
    assert sum(computed) == 1
    assert (out / "two.npy").read_bytes() == (tmp_path / "whole" / "two.npy").read_bytes()


@pytest.mark.parametrize("megabytes", [2, 3.5])  # too few for the tiles; for both together
def test_what_the_disk_cannot_hold_of_tiles_is_refused_before_one_is_computed(
    photo, tmp_path, command, computed, monkeypatch, megabytes
):
    """The picture itself has 0.72 MB uncompressed, with an alpha channel; its six tiles 3.1."""
    usage = "puriflow.image_files.inputs.shutil.disk_usage"
    monkeypatch.setattr(usage, lambda place: SimpleNamespace(free=int(megabytes * 1e6)))
    status, said = command(photo, *CHAIN, "--out", tmp_path / "out")
    assert (status, computed) == (2, [])
    assert "until it is written, take up to " in said
    assert f"but {megabytes} MB are free" in said


def test_a_folder_of_tiles_that_is_a_link_is_refused(photo, tmp_path, command):
    out = tmp_path / "out"
    (out / "elsewhere").mkdir(parents=True)
    link = KeptTiles(out, Path("photo.png"), {}, (32, 32)).parent
    link.symlink_to("elsewhere")
    status, said = command(photo, *CHAIN, "--out", out)
    assert (status, f"{link} is a link" in said) == (2, True), said
