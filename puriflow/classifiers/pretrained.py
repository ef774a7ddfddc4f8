"""Classifiers by their library's name, for those who have the official weights.

`resnet50` of torchvision (IMAGENET1K_V1, the paper's 76.13 %) and `deit_small_patch16_224` of timm
are the paper's; any other name of the two libraries works as well.
"""

from typing import Literal

from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision and timm
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import unknown
from puriflow.options import Deviation, Mean, Side, Text
from puriflow.zoo.weights import load_network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build(
    *,
    library: Literal["timm", "torchvision"],
    name: Text,
    weights: Text | None,
    mean: Mean = IMAGENET_MEAN,
    std: Deviation = IMAGENET_STD,
    size: Side = 224,
) -> Normalised:
    """A classifier with the weights of a file or of the zoo (None: random, for tests).

    `size` is the side of the images that it is for.
    """
    network = load_network(_create(library, name), weights)
    return Normalised(network, mean=mean, std=std, size=size)


def _create(library: Literal["timm", "torchvision"], name: str) -> nn.Module:
    if library == "torchvision":
        from torchvision import models

        # others find objects or segments, and fetch weights by themselves
        known, create = models.list_models(module=models), models.get_model
    else:
        import timm

        known, create = timm.list_models(), timm.create_model
    if name not in known:
        raise unknown(f"{library} model", name, known)
    return create(name)  # neither loads weights unless it is told to
