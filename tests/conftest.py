"""Fixtures that several folders of tests share."""

from pathlib import Path

import numpy as np
import pytest
from tiny_parts import ADM

from puriflow.registry import part_of
from puriflow.stages.images import write_images

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_adm() -> dict:
    """An ADM that takes 30 ms for a 224 image, with random weights."""
    return dict(ADM)


@pytest.fixture(scope="session")
def four_images(tmp_path_factory):
    """A finished store of four real ImageNet images, 224 pixels."""
    entry = {"kind": "foolbox", "sample": "imagenet", "resize": 256, "crop": 224}
    out = tmp_path_factory.mktemp("stores") / "images" / "imagenet" / "0-of-1"
    return write_images(out, part_of("dataset", "imagenet", entry), subset=4)


@pytest.fixture
def small_images() -> np.ndarray:
    """Three random images (3, 3, 16, 16) in [0, 1]."""
    return np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
