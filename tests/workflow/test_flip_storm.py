"""A storm of flipped bits: each is found, wherever it is, or the results are the same bytes."""

import random
from contextlib import contextmanager

import numpy as np
import pytest

from puriflow.errors import UserError
from puriflow.stages.base import fill
from puriflow.store import MANIFEST, Writer, open_stage
from puriflow.upkeep import verified
from puriflow.zoo.catalogue import Zoo

FLIPS = 50  # ten times as many by --storm


@contextmanager
def flipped(file, draw):
    """One bit of a file is another one, for a while."""
    before = file.read_bytes()
    bits = bytearray(before)
    bits[draw.randrange(len(bits))] ^= 1 << draw.randrange(8)
    file.write_bytes(bits)
    try:
        yield
    finally:
        file.write_bytes(before)


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
        inner = sorted(f for f in folder.rglob("zarr.json" if number % 3 else "c/**/*"))
        manifest = number % 2 == 0
        file = folder / MANIFEST if manifest else draw.choice([f for f in inner if f.is_file()])
        with flipped(file, draw):
            with pytest.raises(UserError):
                open_stage(folder)
            assert list(verified(folder, Zoo()).broken) == [folder]
        assert not verified(folder, Zoo()).broken


def test_a_flipped_bit_of_weights_is_found(built, draw):
    for name in ("edsr", "adm"):
        file = built.folder / f"{name}.safetensors"
        with flipped(file, draw):
            assert [f.name for f in verified(built.folder / "results", Zoo()).changed] == [file.name]


def test_a_flipped_bit_of_work_under_way_changes_no_byte(tmp_path, draw, flips):
    whole = contents(finished(tmp_path / "whole"))
    for number in flips:
        out = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            finished(out, interrupted_at=3)
        files = sorted(f for f in out.with_name(f".{out.name}.work").rglob("*") if f.is_file())
        file = draw.choice([file for file in files if file.stat().st_size])
        with flipped(file, draw):
            assert contents(finished(out)) == whole
