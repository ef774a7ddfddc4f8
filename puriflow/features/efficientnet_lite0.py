"""Stages of EfficientNet-Lite0: VGG-19's stand-in on the mini track, with real ImageNet weights.

Layers are stem (behind its activation) and stage1 to stage7 (each behind its last block).
"""

from puriflow.classifiers import efficientnet_lite0
from puriflow.features.layers import Features
from puriflow.options import Names


def build(*, layers: Names) -> Features:
    """Feature maps of the mini track's classifier."""
    classifier = efficientnet_lite0.build()
    part = classifier.network.get_submodule
    stages = [(f"stage{i}", stage) for i, stage in enumerate(part("stages").children(), start=1)]
    return Features([("stem", part("stem")), *stages], layers, classifier)
