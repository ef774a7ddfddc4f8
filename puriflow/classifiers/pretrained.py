"""Classifiers by their library's name, for those who have the official weights.

`resnet50` of torchvision (IMAGENET1K_V1, the paper's 76.13 %) and `deit_small_patch16_224` of timm
are the paper's; any other name of the two libraries works as well, with a tag of timm's
(`vit_base_patch16_clip_224.openai`) too. Mean, standard deviation and size are those that the
library gives for the name: many of timm's networks take others than ImageNet's. How it resizes and
crops, is up to the data set.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision and timm
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import unknown
from puriflow.options import Deviation, Mean, Side, Text
from puriflow.zoo.weights import load_network


class Input(NamedTuple):
    """What a network was trained on: mean and standard deviation a colour, and the image side."""

    mean: Sequence[float]
    std: Sequence[float]
    size: int


def build(
    *,
    library: Literal["timm", "torchvision"],
    name: Text,
    weights: Text | None,
    mean: Mean | None = None,
    std: Deviation | None = None,
    size: Side | None = None,
) -> Normalised:
    """A classifier with the weights of a file or of the zoo (None: random, for tests).

    `mean` and `std`, on [0, 1], and `size`, the side of the images that it is for, are the
    library's own where they are None.
    """
    network, own = (timm_network if library == "timm" else torchvision_network)(name)
    return Normalised(
        load_network(network, weights),
        mean=own.mean if mean is None else mean,
        std=own.std if std is None else std,
        size=own.size if size is None else size,
        dataset="imagenet",
    )


def torchvision_network(name: str) -> tuple[nn.Module, Input]:
    """A network of torchvision without weights, and what its weights were trained on."""
    from torchvision import models

    # others find objects or segments, and fetch weights by themselves
    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    network = models.get_model(name)
    if hasattr(network, "transform_input"):
        # Of GoogLeNet and Inception: ImageNet's normalisation to that of their weights, which
        # torchvision switches on only if it loads these itself.
        vars(network)["transform_input"] = True
    # pyrefly: ignore[missing-attribute]  # of every enumeration of weights
    made_for = models.get_model_weights(name).DEFAULT.transforms()
    return network, Input(made_for.mean, made_for.std, made_for.crop_size[0])


def timm_network(name: str) -> tuple[nn.Module, Input]:
    """A network of timm without weights, and what its weights were trained on."""
    import timm
    from timm.data import resolve_model_data_config

    known = {*timm.list_models(), *timm.list_pretrained()}
    if name not in known:
        raise unknown("timm model", name, known)
    network = timm.create_model(name)
    made_for = resolve_model_data_config(network)
    return network, Input(made_for["mean"], made_for["std"], made_for["input_size"][-1])
