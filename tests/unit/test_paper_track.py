"""The paper track's networks have the published sizes (counted without allocating them)."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from puriflow import parts
from puriflow.config import load_config
from puriflow.purifiers.vpsde import time_grid

PUBLISHED = [
    # family, name, parameters, GMACs for a 224 image
    ("restorers", "edsr-x2", 1_369_859 + 24, 68.9),
    ("restorers", "mdsr-x2", None, 89.4),
    ("restorers", "drln-x2", 34_430_155, 1713),
    ("restorers", "esrgan-x2", None, 224.94),
    ("networks", "adm", 552_814_086, None),
]


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "paper.yaml")


@pytest.mark.parametrize(("family", "name", "parameters", "gmacs"), PUBLISHED)
def test_sizes(track, family, name, parameters, gmacs):
    with torch.device("meta"):
        network = parts.build(family, name, {**track.spec(family, name), "weights": None}).network
        if parameters:
            assert sum(p.numel() for p in network.parameters()) == parameters
        if gmacs:
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, 3, 224, 224))
            assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.002)


def test_diffpure_s_own_steps(track):
    spec = track.spec("purifiers", "vpsde-t90")
    assert (spec["t"], spec["resize"]) == (90, 256)
    assert "step" not in spec
    assert parts.kinds("purifiers")["vpsde"][0]["step"] is False
    assert len(time_grid(90, 1)) == 91
