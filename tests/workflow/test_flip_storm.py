"""A storm of flipped bits: each is found, wherever it is, or the results are the same bytes."""

import os
import random
from contextlib import closing, contextmanager

import numpy as np
import pytest
from tiny_stores import contents, writer

from puriflow.errors import UserError
from puriflow.registry import Weights
from puriflow.store import MANIFEST, open_stage
from puriflow.store.work import damaged_work
from puriflow.upkeep import verified

FLIPS = 50  # ten times as many by --storm
IMAGES = np.random.default_rng(0).random((4, 3, 4, 4), dtype=np.float32)


def flip(file, draw):
    """Change one bit of a file; returns what it held."""
    before = file.read_bytes()
    bits = bytearray(before)
    bits[draw.randrange(len(bits))] ^= 1 << draw.randrange(8)
    file.write_bytes(bits)
    return before


@contextmanager
def flipped(file, draw):
    """One bit of a file is another one, for a while; then all is as it was, times too."""
    times = file.stat()
    before = flip(file, draw)
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def draw(storm):
    return random.Random() if storm else random.Random(0)


@pytest.fixture
def flips(storm):
    return range(FLIPS * (10 if storm else 1))


def test_a_flipped_bit_of_a_store_is_found_and_nothing_reads_it(built, draw, flips):
    folders = [file.parent for file in sorted(built.folder.glob("results/**/manifest.json"))]
    assert len(folders) > 10
    for number in flips:
        folder = draw.choice(folders)
        inner = [file for file in sorted(folder.glob("*.zarr/**/*")) if file.is_file()]
        file = draw.choice(inner) if number % 2 else folder / MANIFEST
        with flipped(file, draw):
            with pytest.raises(UserError):
                open_stage(folder)
            assert list(verified(folder).broken) == [folder]
    assert not verified(built.folder / "results").broken


def test_a_flipped_bit_of_weights_is_found(built, draw):
    files = [built.folder / f"{name}.safetensors" for name in ("edsr", "adm")]
    weights = [Weights(str(file), file) for file in files]
    for file in files:
        with flipped(file, draw):
            assert list(verified(built.folder / "results", weights).changed) == [file]
    assert not verified(built.folder / "results", weights).changed


def test_a_flipped_bit_of_work_under_way_changes_no_byte(tmp_path, draw, flips, capsys):
    whole = contents(write(tmp_path / "whole", stop=4))
    for number in flips:
        folder, work = tmp_path / f"{number}", tmp_path / f".{number}.work"
        write(folder, stop=3)
        file = draw.choice(sorted(work.glob("*/*.batch")))
        flip(file, draw)
        assert damaged_work(work) == [file]
        assert contents(write(folder, stop=4)) == whole
        assert f"{file} was damaged" in capsys.readouterr().err


def write(folder, *, stop):
    """Write the batches before `stop` of a store of four that are not there; finish a whole one."""
    with closing(writer(folder, IMAGES)) as made:
        for start, end in made.todo(1):
            if start < stop:
                made.write(start, {"images": IMAGES[start:end]}, seconds=1)
        if stop == len(IMAGES):
            made.finish()
    return folder
