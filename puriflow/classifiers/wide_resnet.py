"""Wide residual networks (Zagoruyko and Komodakis 2016) in RobustBench's `WideResNet` layout.

WRN-28-10 "Standard" of RobustBench, the paper's CIFAR-10 victim, has `depth` 28 and `widen_factor`
10 and takes [0, 1] images as they are. WRN-70-16-dropout normalises them: `mean` and `std`.
"""

# ruff: noqa: N803  # dropRate is RobustBench's name

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError
from puriflow.options import Blocks, Classes, Deviation, Fraction, Mean, Text
from puriflow.zoo.weights import load_network


class BasicBlock(nn.Module):
    """Two normalised convolutions added to the input, which a 1x1 convolution fits if need be."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop_rate: float):
        super().__init__()
        self.drop_rate = drop_rate
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(x))
        # Where the width changes, the shortcut starts behind the first normalisation.
        shortcut = x if self.convShortcut is None else self.convShortcut(h)
        h = F.relu(self.bn2(self.conv1(h)))
        h = F.dropout(h, self.drop_rate, self.training)
        return shortcut + self.conv2(h)


def group(
    key: str, block: Callable[..., nn.Module], blocks: int, inputs: int, outputs: int, stride: int
) -> nn.Sequential:
    """Blocks of one width, of which the first has the stride, under their official key."""
    rest = (block(outputs, outputs, 1) for _ in range(blocks - 1))
    layers: nn.Module = nn.Sequential(block(inputs, outputs, stride), *rest)
    return nn.Sequential(OrderedDict({key: layers}))


def blocks_of(depth: int) -> int:
    """Blocks of each of the three groups of a wide residual network, whose depth is 6 n + 4."""
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"depth {depth} of a wide residual network is not 10, 16, 22, 28, ...")
    return (depth - 4) // 6


class WideResNet(nn.Module):
    """The network: normalised images (N, 3, 32, 32) to logits (N, num_classes)."""

    def __init__(
        self, *, depth: int, widen_factor: int, num_classes: int = 10, dropRate: float = 0.0
    ):
        super().__init__()
        blocks = blocks_of(depth)
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        block = partial(BasicBlock, drop_rate=dropRate)
        self.block1 = group("layer", block, blocks, widths[0], widths[1], 1)
        self.block2 = group("layer", block, blocks, widths[1], widths[2], 2)
        self.block3 = group("layer", block, blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(h)), 8).flatten(1))


def build(
    *,
    weights: Text | None,
    depth: Blocks = 28,
    widen_factor: Blocks = 10,
    num_classes: Classes = 10,
    dropRate: Fraction = 0.0,
    mean: Mean = (0.0, 0.0, 0.0),
    std: Deviation = (1.0, 1.0, 1.0),
    dataset: Literal["cifar10"] | None = None,
) -> Normalised:
    """A wide residual network; the default numbers are WRN-28-10 "Standard" of RobustBench.

    `dataset` says whose classes it knows, for their names.
    """
    network = WideResNet(
        depth=depth, widen_factor=widen_factor, num_classes=num_classes, dropRate=dropRate
    )
    return Normalised(load_network(network, weights), mean=mean, std=std, size=32, dataset=dataset)
