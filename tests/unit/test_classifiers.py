import numpy as np
import pytest
import torch

from puriflow import parts
from puriflow.errors import Problem
from puriflow.images import foolbox


def test_efficientnet_lite0_recognises_18_of_the_20_samples():
    """The packaged weights, renamed by position into timm's network, are the real ones."""
    classifier = parts.build("classifiers", "resnet50", {"kind": "efficientnet-lite0"})
    samples = foolbox.build(sample="imagenet", resize=256, crop=224)
    images = torch.from_numpy(np.stack([samples.image(i) for i in range(20)]))
    with torch.no_grad():
        found = classifier(images).argmax(1)
    assert (found == torch.tensor(samples.labels)).sum() == 18


def test_normalisation_is_inside_the_model():
    spec = {"kind": "pretrained", "library": "torchvision", "name": "resnet18", "weights": None}
    classifier = parts.build("classifiers", "c", spec)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        expected = classifier.network((images - mean) / std)
        torch.testing.assert_close(classifier(images), expected)


@pytest.mark.parametrize(
    ("library", "name"), [("torchvision", "resnet50"), ("timm", "deit_small_patch16_224")]
)
def test_the_papers_classifiers_load_from_a_local_file(tmp_path, library, name):
    spec = {"kind": "pretrained", "library": library, "name": name}
    made = parts.build("classifiers", "c", {**spec, "weights": None})
    file = tmp_path / "weights.pth"
    torch.save({"model": made.network.state_dict()}, file)
    loaded = parts.build("classifiers", "c", {**spec, "weights": str(file)})
    for key, value in made.network.state_dict().items():
        assert torch.equal(value, loaded.network.state_dict()[key])


def test_what_is_missing_or_wrong_is_named(tmp_path):
    spec = {"kind": "pretrained", "library": "torchvision", "name": "resnet18"}
    with pytest.raises(Problem, match=r"nowhere\.pth does not exist"):
        parts.build("classifiers", "c", {**spec, "weights": "nowhere.pth"})
    other = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, other)
    with pytest.raises(Problem, match=r"other\.pth does not fit resnet18"):
        parts.build("classifiers", "c", {**spec, "weights": str(other)})
    with pytest.raises(Problem, match="did you mean 'resnet50'"):
        parts.build("classifiers", "c", {**spec, "name": "resnet5O", "weights": None})
    with pytest.raises(Problem, match="known are timm, torchvision"):
        parts.build("classifiers", "c", {**spec, "library": "keras", "weights": None})


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_loading_runs_no_code_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, "evil.pth")
    spec = {"kind": "pretrained", "library": "torchvision", "name": "resnet18"}
    with pytest.raises(Problem, match=r"evil\.pth"):
        parts.build("classifiers", "c", {**spec, "weights": "evil.pth"})
    assert not (tmp_path / "ran.txt").exists()
