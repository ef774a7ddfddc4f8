"""The mini track's own networks: small enough, loadable, and documented."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from puriflow import parts
from puriflow.config import load_config

NETWORKS = [
    ("restorers", "drln-x2"),
    ("restorers", "edsr-x2"),
    ("restorers", "esrgan-x2"),
    ("restorers", "mdsr-x2"),
    ("networks", "adm"),
]


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.mark.parametrize(("family", "name"), NETWORKS)
def test_a_224_image_costs_at_most_8_gmacs(track, family, name):
    part = parts.build(family, name, {**track.spec(family, name), "weights": None})
    image = torch.zeros(1, 3, 224, 224, device="meta")
    labels = (torch.zeros(1, device="meta"),) if family == "networks" else ()
    with FlopCounterMode(display=False) as counter:
        part.network.to("meta")(image, *labels)
    assert 4e9 < counter.get_total_flops() / 2 <= 8e9


@pytest.mark.parametrize(("family", "name"), NETWORKS)
def test_the_weights_load_and_have_a_card(track, family, name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    parts.build(family, name, track.spec(family, name))
    card = (repository / "resources" / f"{name}.md").read_text()
    for said in ("network:", "data:", "recipe:", "held out", '"seed":0', "PSNR"):
        assert said in card
    kind = '"degradation":"real"' if name == "esrgan-x2" else '"degradation":"bicubic"'
    assert family == "networks" or kind in card


@pytest.mark.parametrize(("family", "limit"), [("restorers", 10e6), ("networks", 15e6)])
def test_the_repository_stays_small(repository, family, limit):
    files = [
        repository / "resources" / f"{name}.safetensors" for f, name in NETWORKS if f == family
    ]
    assert sum(file.stat().st_size for file in files) < limit
