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
    network = _torchvision(name) if library == "torchvision" else _timm(name)
    own = OWN[library](name)
    return Normalised(
        load_network(network, weights),
        mean=own.mean if mean is None else mean,
        std=own.std if std is None else std,
        size=own.size if size is None else size,
        dataset="imagenet",
    )


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    # others find objects or segments, and fetch weights by themselves
    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    network = models.get_model(name)  # without weights
    if hasattr(network, "transform_input"):
        # Of GoogLeNet and Inception: ImageNet's normalisation to that of their weights, which
        # torchvision switches on only if it loads these itself.
        vars(network)["transform_input"] = True
    return network


def _timm(name: str) -> nn.Module:
    import timm

    known = {*timm.list_models(), *timm.list_pretrained()}
    if name not in known:
        raise unknown("timm model", name, known)
    return timm.create_model(name)  # without weights


def torchvision_input(name: str) -> Input:
    """What a network of torchvision takes, by the transforms of its weights."""
    from torchvision.models import get_model_weights

    # pyrefly: ignore[missing-attribute]  # of every enumeration of weights
    found = get_model_weights(name).DEFAULT.transforms()
    return Input(found.mean, found.std, found.crop_size[0])


def timm_input(name: str) -> Input:
    """What a network of timm takes, by its configuration, or else timm's defaults."""
    import timm
    from timm.data import resolve_data_config

    configuration = timm.get_pretrained_cfg(name)
    own = configuration.to_dict() if configuration else {"architecture": name}  # not nothing
    found = resolve_data_config({}, own)
    return Input(found["mean"], found["std"], found["input_size"][-1])


OWN = {"torchvision": torchvision_input, "timm": timm_input}
