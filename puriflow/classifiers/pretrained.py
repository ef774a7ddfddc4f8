"""Classifiers by their library's name, for those who have the official weights.

`resnet50` of torchvision (IMAGENET1K_V1, the paper's 76.13 %) and `deit_small_patch16_224` of timm
are the paper's; any other name of the two libraries works as well, with a tag of timm's
(`vit_base_patch16_clip_224.openai`) too. Mean, standard deviation and size are those that the
library gives for the name: many of timm's networks take others than ImageNet's. How it resizes and
crops, is up to the data set; the line that refuses another size says it. The kind `timm` also takes
timm's own weights.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision and timm
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError, unknown
from puriflow.options import Deviation, Interpolation, Mean, Side, Text
from puriflow.zoo.weights import load_network


class Input(NamedTuple):
    """What a network was trained on: mean and standard deviation a colour, and the image side."""

    mean: Sequence[float]
    std: Sequence[float]
    size: int
    made_by: str  # options of a data set, by which the library would make an image of that side


def build(
    *,
    library: Literal["timm", "torchvision"],
    name: Text,
    weights: Text | None,
    mean: Mean | None = None,
    std: Deviation | None = None,
    size: Side | None = None,
    interpolation: Interpolation | None = None,
) -> Normalised:
    """A classifier with the weights of a file or of the zoo (None: random, for tests).

    `mean` and `std`, on [0, 1], and `size`, the side of the images that it is for, are the
    library's own where they are None. Images of another size are refused, or resized to it by
    `interpolation`, as a part of the classifier and so within reach of an attack.
    """
    network = _torchvision(name) if library == "torchvision" else timm_network(name)
    return normalised(
        load_network(network, weights), OWN[library](name), mean, std, size, interpolation
    )


def normalised(
    network: nn.Module,
    own: Input,
    mean: Mean | None,
    std: Deviation | None,
    size: Side | None,
    interpolation: Interpolation | None,
) -> Normalised:
    """A network behind its own preprocessing, of which each number may be another one.

    Raises:
        UserError: it does not take images of that size.
    """
    if size is not None and size != own.size:
        try:
            with torch.no_grad():
                network(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError) as error:
            raise UserError(
                f"size is {size}, but the network is for {own.size}x{own.size} images: {error}"
            ) from None
    return Normalised(
        network,
        mean=own.mean if mean is None else mean,
        std=own.std if std is None else std,
        size=own.size if size is None else size,
        dataset="imagenet",
        interpolation=interpolation,
        made_by=own.made_by if size in (None, own.size) else None,
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


def timm_network(name: str, *, pretrained: bool = False) -> nn.Module:
    """A network of timm's; with `pretrained`, with the weights that timm has for the name."""
    import timm

    known = {*timm.list_models(), *timm.list_pretrained()}
    if name not in known:
        raise unknown("timm model", name, known)
    return timm.create_model(name, pretrained=pretrained)


def torchvision_input(name: str) -> Input:
    """What a network of torchvision takes, by the transforms of its weights."""
    from torchvision.models import get_model_weights

    # pyrefly: ignore[missing-attribute]  # of every enumeration of weights
    found = get_model_weights(name).DEFAULT.transforms()
    side, short = found.crop_size[0], found.resize_size[0]
    return Input(found.mean, found.std, side, made_by(short, side, found.interpolation.value))


def timm_input(name: str) -> Input:
    """What a network of timm takes, by its configuration, or else timm's defaults."""
    import timm
    from timm.data import resolve_data_config

    configuration = timm.get_pretrained_cfg(name)
    own: dict[str, Any] = configuration.to_dict() if configuration else {"architecture": name}
    found: dict[str, Any] = resolve_data_config({}, own)
    side = found["input_size"][-1]
    short = math.floor(side / found["crop_pct"])
    return Input(found["mean"], found["std"], side, made_by(short, side, found["interpolation"]))


def made_by(resize: int, crop: int, interpolation: str) -> str:
    """The options of a data set that resizes and crops like a library."""
    return f"resize {resize}, crop {crop} and interpolation {interpolation}"


OWN = {"torchvision": torchvision_input, "timm": timm_input}
