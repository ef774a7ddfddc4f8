"""A feature network: named layers in a row, and the feature maps of some of them."""

from collections.abc import Sequence

from torch import Tensor, nn

from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError, unknown


def staged(classifier: Normalised, wanted: Sequence[str]) -> "Features":
    """Of a network of stages: stem, behind its activation, and stage1 on, behind its last block."""
    part = classifier.network.get_submodule
    stages = [(f"stage{i}", stage) for i, stage in enumerate(part("stages").children(), start=1)]
    return Features([("stem", part("stem")), *stages], wanted, classifier)


class Features(nn.Module):
    """Feature maps of some layers; what lies behind the last of them is not computed.

    Args:
        layers: name and module of every layer, in the order in which they are applied.
        wanted: names of those whose feature maps are returned.
        classifier: whose normalisation the images get.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, layers: Sequence[tuple[str, nn.Module]], wanted: Sequence[str], classifier: Normalised
    ):
        super().__init__()
        names = [name for name, _ in layers]
        if not wanted:
            raise UserError(f"no layer is wanted; known are {', '.join(names)}")
        for name in wanted:
            if name not in names:
                raise unknown("layer", name, names)
        last = max(names.index(name) for name in wanted)
        self.wanted = tuple(wanted)
        self.layers = nn.ModuleDict(dict(layers[: last + 1]))
        halvings = sum(isinstance(layer, nn.MaxPool2d) for layer in self.layers.values())
        self.smallest = 2**halvings  # side of an image of which the last feature map has a pixel
        self.register_buffer("mean", classifier.mean, persistent=False)
        self.register_buffer("std", classifier.std, persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) in [0, 1] to feature maps (N, C, h, w) by the layers' names."""
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise UserError(
                f"layer {self.wanted[-1]} needs images of {self.smallest}x{self.smallest} pixels "
                f"or more, but these are {height}x{width}"
            )
        x = (images - self.mean) / self.std
        feature_maps = {}
        for name, layer in self.layers.items():
            x = layer(x)
            if name in self.wanted:
                feature_maps[name] = x
        return feature_maps
