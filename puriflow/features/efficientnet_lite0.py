"""Stages of EfficientNet-Lite0, with real ImageNet weights: what ESRGAN is trained by.

Layers are those of every `staged` network.
"""

from puriflow.classifiers import efficientnet_lite0
from puriflow.features.layers import Features, staged
from puriflow.options import Names


def build(*, layers: Names) -> Features:
    """Feature maps of the classifier that stands for ResNet-50."""
    return staged(efficientnet_lite0.build(), layers)
