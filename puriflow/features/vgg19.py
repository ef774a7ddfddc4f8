"""VGG-19 features (Simonyan and Zisserman 2015): what the paper measures content distance with.

Layers are named conv1_1, relu1_1, conv1_2, ..., pool5: `conv` is before the ReLU, `relu` behind it.
"""

from collections.abc import Iterator

from torch import nn

from puriflow.classifiers import pretrained
from puriflow.features.layers import Features
from puriflow.options import Names, Text

BLOCKS = (2, 2, 4, 4, 4)


def build(*, weights: Text | None, layers: Names) -> Features:
    """Feature maps of torchvision's VGG-19 with ImageNet normalisation."""
    classifier = pretrained.build(library="torchvision", name="vgg19", weights=weights)
    modules = list(classifier.network.get_submodule("features").children())
    for module in modules:
        if isinstance(module, nn.ReLU):
            module.inplace = False  # else `conv` maps would be those behind the ReLU
    return Features(list(zip(_names(), modules, strict=True)), layers, classifier)


def _names() -> Iterator[str]:
    for block, convolutions in enumerate(BLOCKS, start=1):
        for i in range(1, convolutions + 1):
            yield f"conv{block}_{i}"
            yield f"relu{block}_{i}"
        yield f"pool{block}"
