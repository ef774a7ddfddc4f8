import pytest
from torch.nn import functional as F

from puriflow.classifiers.dm_wide_resnet import DMWideResNet
from puriflow.classifiers.normalised import Normalised
from puriflow.classifiers.wide_resnet import WideResNet


@pytest.mark.parametrize(("item", "kind"), [("wrn", WideResNet), ("dmwrn", DMWideResNet)])
def test_wide_residual_networks(fixture, item, kind):
    f = fixture(item)
    sizes = ("depth", "width", "widen_factor", "num_classes", "dropRate")
    network = kind(**{name: f.config[name] for name in sizes if name in f.config})
    network.load_state_dict(f.weights(), strict=True)
    mean, std = f.config.get("mean", [0.0] * 3), f.config.get("std", [1.0] * 3)
    classifier = Normalised(network, mean=mean, std=std, size=32)
    x = f["in.x"].requires_grad_()
    logits = classifier(x)
    f.check("out.logits", logits)
    F.cross_entropy(logits, f["in.y"], reduction="sum").backward()
    f.check("out.grad", x.grad)
