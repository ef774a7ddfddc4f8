"""The mini track's own networks: small enough, loadable, and documented."""

import json
import re
from dataclasses import replace

import pytest

from puriflow.config import load_config
from puriflow.config.track import TRAINABLE
from puriflow.metrics.cost import cost_of
from puriflow.registry import family_named

NETWORKS = [
    *(("restorers", name) for name in ("drln-x2", "edsr-x2", "edsr-x2-real", "mdsr-x2")),
    *(("restorers", name) for name in ("sesr-m5-x2", "sesr-m11-x2")),
    *(("restorers", f"esrgan-x{scale}{end}") for scale in (2, 4, 8) for end in ("", "-l1")),
    *(("networks", name) for name in ("adm", "edm", "ncsn")),
    *(("classifiers", f"wrn-{name}") for name in ("28-10", "70-16", "28-10-at", "28-10-me-net")),
    *(("purifiers", name) for name in ("ebm", "pixeldefend")),
]
FOR_A_224_IMAGE = [
    *(("restorers", name) for name in ("drln-x2", "edsr-x2", "esrgan-x2", "mdsr-x2")),
    ("networks", "adm"),
]
MEASURED = {"classifiers": "accuracy", "pixeldefend": "bits"}  # of all others PSNR


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


def part_of_track(track, family, name, **changes):
    return replace(track.part(family_named(family).roles[0], name), **changes)


def test_every_network_has_a_recipe(track):
    recipes = {(family, n) for family in TRAINABLE for n in getattr(track.training, family)}
    assert recipes == {*NETWORKS, ("restorers", "quilting")}  # which has patches, and no network


@pytest.mark.parametrize(("family", "name"), FOR_A_224_IMAGE)
def test_a_224_image_costs_at_most_8_gmacs(track, family, name):
    part = part_of_track(track, family, name, weights=None).build()
    levels = (0.0,) if family == "networks" else ()
    assert 4e9 < cost_of(part.network, 224, *levels).macs <= 8e9


@pytest.mark.parametrize(("family", "name"), NETWORKS)
def test_the_weights_load_and_have_a_card_of_their_recipe(
    track, family, name, repository, monkeypatch
):
    monkeypatch.chdir(repository)
    part_of_track(track, family, name).build()
    card = (repository / "resources" / f"{name}.md").read_text()
    for said in (
        "network:",
        "data:",
        "recipe:",
        "time:",
        MEASURED.get(name, MEASURED.get(family, "PSNR")),
    ):
        assert said in card
    recipe = json.loads(re.search(r"recipe: `(.*)`", card).group(1))
    wanted = track.training.recipe(family, name)
    assert {key: recipe[key] for key in ("steps", "batch", "crop")} == {
        key: wanted[key] for key in ("steps", "batch", "crop")
    }
    assert recipe.get("degradation") == wanted.get("degradation", recipe.get("degradation"))
    assert (repository / "resources" / f"{name}.png").stat().st_size > 1000


def test_the_large_track_has_other_images_and_is_else_the_same(track, repository, monkeypatch):
    monkeypatch.chdir(repository)
    large = load_config("config/large.yaml")
    same = {"track": "mini", "datasets": track.datasets}
    assert large.model_copy(update=same) == track
    for name in track.datasets:
        if track.why_unavailable("dataset", name) is None:
            assert large.part("dataset", name).options["root"].startswith("data/")
            assert large.dataset(name).subset > 20
            assert large.dataset(name).shards > 1


def test_the_weights_are_less_than_40_mb_together(repository):
    files = (repository / "resources").glob("*.safetensors")
    assert sum(file.stat().st_size for file in files) < 40e6
