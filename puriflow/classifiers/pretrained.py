"""Classifiers by their library's name, for those who have the official weights.

`resnet50` of torchvision (IMAGENET1K_V1, the paper's 76.13 %) and `deit_small_patch16_224` of timm
are the paper's; any other name of the two libraries works as well.
"""

from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision and timm
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import unknown
from puriflow.zoo.weights import load_network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build(
    *,
    library: str,
    name: str,
    weights: str | None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Normalised:
    """A classifier with the weights of a file or of the zoo (None: random, for tests)."""
    return Normalised(load_network(_create(library, name), weights), mean=mean, std=std)


def _create(library: str, name: str) -> nn.Module:
    if library == "torchvision":
        from torchvision import models

        if name not in models.list_models():
            raise unknown("torchvision model", name, models.list_models())
        return models.get_model(name, weights=None)
    if library == "timm":
        import timm

        if name not in timm.list_models():
            raise unknown("timm model", name, timm.list_models())
        return timm.create_model(name, pretrained=False)
    raise unknown("library", library, ("timm", "torchvision"))
