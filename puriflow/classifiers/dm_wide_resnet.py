"""Wide residual networks in DeepMind's layout, RobustBench's `DMWideResNet` with Swish.

WRN-70-16 of Gowal et al. and Rebuffi et al., which DiffPure and the paper attack on CIFAR-10. Its
strided 3x3 convolutions pad on the right and at the bottom only.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.classifiers.normalised import Normalised
from puriflow.classifiers.wide_resnet import blocks_of, group
from puriflow.options import Blocks, Classes, Deviation, Mean, Text
from puriflow.zoo.weights import load_network

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2471, 0.2435, 0.2616)


class Block(nn.Module):
    """Two normalised convolutions added to the input, which a 1x1 convolution fits if need be."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(inputs, momentum=0.01)
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, padding=2 - stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outputs, momentum=0.01)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.batchnorm_0(x))
        shortcut = x if self.shortcut is None else self.shortcut(h)
        if self.stride == 2:
            h = F.pad(h, (0, 1, 0, 1))
        return shortcut + self.conv_1(F.silu(self.batchnorm_1(self.conv_0(h))))


class DMWideResNet(nn.Module):
    """The network: normalised images (N, 3, 32, 32) to logits (N, num_classes)."""

    def __init__(self, *, depth: int, width: int, num_classes: int = 10):
        super().__init__()
        blocks = blocks_of(depth)
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.init_conv = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            group("block", Block, blocks, widths[0], widths[1], 1),
            group("block", Block, blocks, widths[1], widths[2], 2),
            group("block", Block, blocks, widths[2], widths[3], 2),
        )
        self.batchnorm = nn.BatchNorm2d(widths[3], momentum=0.01)
        self.logits = nn.Linear(widths[3], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.batchnorm(self.layer(self.init_conv(x))))
        return self.logits(F.avg_pool2d(h, 8).flatten(1))


def build(
    *,
    weights: Text | None,
    depth: Blocks = 70,
    width: Blocks = 16,
    num_classes: Classes = 10,
    mean: Mean = CIFAR10_MEAN,
    std: Deviation = CIFAR10_STD,
    dataset: Literal["cifar10"] | None = None,
) -> Normalised:
    """A wide residual network with Swish; the default numbers are WRN-70-16's.

    `dataset` says whose classes it knows, for their names.
    """
    network = DMWideResNet(depth=depth, width=width, num_classes=num_classes)
    return Normalised(load_network(network, weights), mean=mean, std=std, size=32, dataset=dataset)
