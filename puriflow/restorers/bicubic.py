"""The control that the paper lacks: enlarge by bicubic interpolation, no network, and shrink."""

from torch import Tensor, nn

from puriflow.options import Downsampler, Rounds, Scale
from puriflow.restorers.rescaling import UpDown, resized


class Bicubic(nn.Module):
    """(N, 3, H, W) to (N, 3, scale H, scale W)."""

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        height, width = (self.scale * side for side in images.shape[-2:])
        return resized(images, (height, width), "bicubic", antialias=False)


def build(*, scale: Scale = 2, downsample: Downsampler = "bicubic", rounds: Rounds = 1) -> UpDown:
    """Bicubic up, linear downsampler back."""
    return UpDown(Bicubic(scale), scale=scale, downsample=downsample, rounds=rounds)
