import pytest
import torch

from puriflow import registry
from puriflow.errors import UserError


def test_feature_maps_are_those_inside_the_classifier():
    spec = {"kind": "efficientnet-lite0", "layers": ["stage7", "stem"]}
    features = registry.build("features", "f", spec)
    classifier = registry.build("classifiers", "c", {"kind": "efficientnet-lite0"})
    seen = []
    classifier.network.blocks[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = features(images)
        classifier(images)
    assert set(found) == {"stem", "stage7"}
    torch.testing.assert_close(found["stage7"], seen[0])


def test_vgg_s_maps_before_and_behind_the_activation(tmp_path):
    spec = {"kind": "vgg19", "weights": None, "layers": ["conv1_2", "relu1_2"]}
    found = registry.build("features", "f", spec)(torch.rand(1, 3, 32, 32))
    assert (found["conv1_2"] < 0).any()
    torch.testing.assert_close(found["conv1_2"].relu(), found["relu1_2"])


@pytest.mark.parametrize(
    ("layers", "message"), [(["rlu2_2"], "did you mean 'relu2_2'"), ([], "no layer is wanted")]
)
def test_an_unknown_layer_is_named(layers, message):
    with pytest.raises(UserError, match=message):
        registry.build("features", "f", {"kind": "vgg19", "weights": None, "layers": layers})
