"""The paper track's networks have the published sizes (counted without allocating them), and its
images are read and drawn as published."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.config import load_config
from puriflow.datasets.samples import Samples, chosen_indices
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import time_grid
from puriflow.metrics.cost import cost_of
from puriflow.purifiers.vpsde import VPSDE
from puriflow.registry import family_named, kinds
from puriflow.results import load_result

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
    assert not {"solver", "evaluations"} & set(options)
    defaults = kinds("purifiers")["vpsde"].defaults
    assert (defaults["solver"], defaults["evaluations"]) == ("euler-maruyama", None)
    purifier = VPSDE(VPDenoiser(nn.Identity(), integer_steps=True), t=90)
    assert torch.equal(purifier.times, time_grid(90, 90))


IMAGENET = ["imagenet", "imagenet-adaptive", "imagenet-diffpure"]
CENTRE_288 = ["imagenet-288", "imagenet-diffpure-288"]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A folder of one image with all frequencies, 500 x 375, and the image."""
    root = tmp_path_factory.mktemp("imagenet")
    (root / "n01440764").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "n01440764" / "a.png")
    return root, Image.fromarray(pixels)


@pytest.mark.parametrize("name", [*IMAGENET, *CENTRE_288, "a folder"])
def test_imagenet_s_pixels_are_those_of_torchvision_s_transforms(track, name, photograph):
    """Resize(256) and CenterCrop(224), or CenterCrop(288) alone, as DiffPure and RobustBench do."""
    from torchvision import transforms

    root, image = photograph
    entry = {} if name == "a folder" else track.part("dataset", name).options
    part = replace(track.part("dataset", "imagenet"), options={**entry, "root": str(root)})
    read = part.build().read(0)
    if name in CENTRE_288:
        expected = transforms.CenterCrop(288)(image)
    else:
        expected = transforms.CenterCrop(224)(transforms.Resize(256)(image))
    np.testing.assert_array_equal(read, np.asarray(expected).transpose(2, 0, 1))


def test_every_data_set_of_the_track_is_in_the_tests_above_or_is_not_resized(track):
    folders = {n for n in track.datasets if track.part("dataset", n).kind == "folder"}
    assert folders == {*IMAGENET, *CENTRE_288}


def indices(track, name, total):
    """Those of a data set, of so many images, that the track takes."""
    samples = Samples(labels=range(total), read=None, fingerprint="")
    entry = track.entry("dataset", name)
    return chosen_indices(
        samples, subset=entry.subset, seeds=entry.subset_seeds, shard=0, shards=1
    ).tolist()


@pytest.mark.parametrize(
    ("table", "names", "total", "subset", "seeds", "count"),
    [
        ("table1", {"cifar10-bpda"}, 10_000, 200, 5, 960),
        ("table2", {"imagenet-diffpure", "imagenet-diffpure-288"}, 50_000, 16, 32, 510),
    ],
)
def test_tables_1_and_2_are_of_diffpure_s_own_images(
    track, repository, table, names, total, subset, seeds, count
):
    """Each row, in the order in which DiffPure's data seeds draw them."""
    found = load_result(repository / "config" / "tables" / f"{table}.yaml")
    assert set(found.trigger(track)["roles"]["dataset"]) == names
    drawn = [np.random.RandomState(s).choice(total, subset, replace=False) for s in range(seeds)]
    union = list(dict.fromkeys(np.concatenate(drawn).tolist()))
    assert len(union) == count
    for name in names:
        assert indices(track, name, total) == union
