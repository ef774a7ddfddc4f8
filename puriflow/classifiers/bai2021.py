"""The adversarially trained ResNet-50 and DeiT-S of Bai et al. (NeurIPS 2021; paper, Table 5).

The ResNet-50 has GELU for ReLU and eight batch norms in the place of each, of which testing uses
the first, and of its statistics the first half. With that fold it is a plain ResNet-50. Both
models take (x - 0.5) / 0.5.
"""

import re
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision and timm
from puriflow.classifiers.normalised import Normalised
from puriflow.options import Text
from puriflow.zoo.weights import load_state, read_state, without_prefix

HALF = (0.5, 0.5, 0.5)
GHOST = re.compile(r"^(.*)\.bn([0-7])\.(.*)$")
AFFINE = re.compile(r"^(.*)\.aff\.bnconv\.(weight|bias)$")


def build(*, weights: Text | None, architecture: Literal["res50-gelu", "deit-s"]) -> Normalised:
    """One of the two models, with the authors' checkpoint (None: random, for tests)."""
    model = NETWORKS[architecture]()
    if weights is not None:
        file = Path(weights)
        state = read_state(file)
        state = fold(state) if architecture == "res50-gelu" else without_prefix(state, model)
        load_state(model, state, f"weights file {file} does not fit {architecture}")
    return Normalised(model, mean=HALF, std=HALF, size=224, dataset="imagenet")


def res50_gelu() -> nn.Module:
    """Torchvision's ResNet-50 with exact GELU everywhere."""
    from torchvision.models import resnet50

    model = resnet50(weights=None)
    for module in list(model.modules()):
        if isinstance(getattr(module, "relu", None), nn.ReLU):
            module.relu = nn.GELU()
    return model


def deit_s() -> nn.Module:
    """Timm's DeiT-S with the LayerNorm eps of the authors' AutoAttack code."""
    import timm

    return timm.create_model(
        "deit_small_patch16_224", norm_layer=partial(nn.LayerNorm, eps=1e-5), pretrained=False
    )


NETWORKS = {"res50-gelu": res50_gelu, "deit-s": deit_s}


def fold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a plain ResNet-50 from one with eight batch norms in the place of each."""
    folded: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        if match := AFFINE.match(name):
            norm, parameter = match.groups()
            folded[f"{norm}.{parameter}"] = value.flatten()
        elif match := GHOST.match(name):
            norm, number, rest = match.groups()
            if number == "0" and rest in ("proxy_bn.running_mean", "proxy_bn.running_var"):
                folded[f"{norm}.{rest.removeprefix('proxy_bn.')}"] = value[: len(value) // 2]
        else:
            folded[name] = value
    return folded
