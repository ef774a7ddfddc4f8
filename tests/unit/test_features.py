"""Feature networks: what every kind must do, and that the maps are those of the layers."""

import pytest
import torch
from tiny_parts import build_tiny, tiny

from puriflow.errors import UserError
from puriflow.registry import kinds


@pytest.mark.parametrize("kind", kinds("features"))
def test_every_feature_network_returns_the_maps_of_the_layers_asked_for(kind):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    features = build_tiny("features", kind)
    maps = features(images)
    assert list(maps) == list(tiny("features", kind).options["layers"])
    assert all(each.ndim == 4 and len(each) == 2 for each in maps.values())
    sum(each.square().sum() for each in maps.values()).backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_feature_maps_are_those_inside_the_classifier():
    features = build_tiny("features", "efficientnet-lite0", layers=["stage7", "stem"])
    classifier = build_tiny("classifiers", "efficientnet-lite0")
    seen = []
    classifier.network.stages[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = features(images)
        classifier(images)
    assert set(maps) == {"stem", "stage7"}
    torch.testing.assert_close(maps["stage7"], seen[0])


def test_vgg_s_maps_before_and_behind_the_activation():
    features = build_tiny("features", "vgg19", layers=["conv1_2", "relu1_2"])
    maps = features(torch.rand(1, 3, 32, 32))
    assert (maps["conv1_2"] < 0).any()
    torch.testing.assert_close(maps["conv1_2"].relu(), maps["relu1_2"])


@pytest.mark.parametrize(
    ("layers", "message"),
    [(["rlu2_2"], "did you mean 'relu2_2'"), ([], "a list of 1 to 1000 names")],
)
def test_an_unknown_layer_is_named(layers, message):
    with pytest.raises(UserError, match=message):
        build_tiny("features", "vgg19", layers=layers)
