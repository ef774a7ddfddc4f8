"""The names of classes."""

import subprocess
import sys

from tiny_parts import tiny

from puriflow.config import load_config
from puriflow.datasets.names import class_names
from puriflow.zoo.catalogue import Zoo


def test_imagenet_s_names_need_nothing_imported_before():
    code = "from puriflow.datasets.names import imagenet_names as names; print(names()[243])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("bull mastiff\n", 0), ended.stderr


def test_classes_are_named_where_their_names_are_known():
    assert class_names(10, "cifar10")[6] == "frog"
    assert class_names(1000, "imagenet")[207] == "golden retriever"
    for count, dataset in ((10, None), (1000, None), (3, "cifar10"), (21841, "imagenet")):
        assert class_names(count, dataset) == [str(i) for i in range(count)]


def test_a_classifier_says_whose_classes_it_knows(repository, monkeypatch):
    """Of ten classes that need not be CIFAR-10's, there are numbers."""
    monkeypatch.chdir(repository)
    config = load_config("config/config.yaml")
    known = {n: config.part("classifier", n) for n in ("resnet50", "wrn-28-10", "wrn-70-16")}
    assert [p.build().dataset for p in known.values()] == ["imagenet", "cifar10", "cifar10"]
    assert tiny("classifiers", "wide-resnet").build().dataset is None
    for name, entry in Zoo().known().items():
        if entry.family == "classifiers" and entry.part["kind"].endswith("wide-resnet"):
            assert entry.part["dataset"] == "cifar10", name
