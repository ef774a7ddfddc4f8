"""The paper track's networks have the published sizes (counted without allocating them)."""

from dataclasses import replace

import pytest
import torch

from puriflow.config import load_config
from puriflow.diffusion.vp import time_grid
from puriflow.metrics.cost import cost_of
from puriflow.registry import family_named, kinds

PUBLISHED = [
    # family, name, parameters, GMACs, side of the image, noise levels
    ("restorers", "edsr-x2", 1_369_859 + 24, 68.9, 224, ()),
    ("restorers", "edsr-large-x2", 40_729_603 + 24, 2044, 224, ()),
    ("restorers", "mdsr-x2", 3.23e6, 89.4, 224, ()),
    ("restorers", "mdsr-large-x2", 7.95e6, 326, 224, ()),
    ("restorers", "drln-x2", 34_430_155, 1713, 224, ()),
    ("restorers", "esrgan-x2", 16.70e6, 224.94, 224, ()),
    ("restorers", "esrgan-x4", 16.70e6, 899.50, 224, ()),
    ("restorers", "esrgan-x8", 16.73e6, 1110.82, 224, ()),
    ("networks", "adm", 552_814_086, None, 256, (0.0,)),
    ("networks", "ddpmpp", 106.7e6, None, 32, (0.0,)),
    ("networks", "edm", 55.7e6, None, 32, (0.5,)),
    ("classifiers", "resnet50", 25_557_032, 4.09, 224, ()),
    ("classifiers", "deit-s", 22_050_664, 4.6, 224, ()),
    ("classifiers", "wrn-28-10", 36_479_194, 5.2, 32, ()),
    ("classifiers", "wrn-70-16", 266_796_506, 38.8, 32, ()),
]


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "paper.yaml")


@pytest.mark.parametrize(
    ("family", "name", "parameters", "gmacs", "side", "levels"),
    PUBLISHED,
    ids=[row[1] for row in PUBLISHED],
)
def test_sizes(track, family, name, parameters, gmacs, side, levels):
    part = replace(track.part(family_named(family).roles[0], name), weights=None)
    # older timm asks for numbers while it builds, which the meta device has not
    with torch.device("cpu" if part.options.get("library") == "timm" else "meta"):
        network = part.build().network
    cost = cost_of(network, side, *levels)
    if isinstance(parameters, int):
        assert cost.parameters == parameters
    else:  # published to three or four digits
        assert cost.parameters == pytest.approx(parameters, rel=0.002)
    if gmacs is not None:
        assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.001 if gmacs > 200 else 0.02)


def test_vgg_19_s_features_are_named_and_stop_at_the_last(track):
    with torch.device("meta"):
        features = replace(track.part("features", "vgg19-conv2-2"), weights=None).build()
        found = features.to("meta")(torch.zeros(1, 3, 224, 224))
    assert {name: tuple(map_.shape) for name, map_ in found.items()} == {
        "relu2_2": (1, 128, 112, 112)
    }
    assert list(features.layers)[-1] == "relu2_2"


def test_diffpure_s_own_steps(track):
    options = track.part("purifier", "vpsde-t90").options
    assert (options["t"], options["resize"]) == (90, 256)
    assert "step_size" not in options
    assert kinds("purifiers")["vpsde"].options["step_size"] is False
    assert len(time_grid(90, 1)) == 91
