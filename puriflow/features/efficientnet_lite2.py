"""Stages of EfficientNet-Lite2: VGG-19's stand-in on the mini track, with real ImageNet weights.

Layers are those of every `staged` network. It is not the classifier that figures attack.
"""

from puriflow.classifiers import efficientnet_lite2
from puriflow.features.layers import Features, staged
from puriflow.options import Names


def build(*, layers: Names) -> Features:
    """Feature maps of a network that no figure attacks."""
    return staged(efficientnet_lite2.build(), layers)
