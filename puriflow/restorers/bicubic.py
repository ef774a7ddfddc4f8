"""The control that the paper lacks: enlarge by bicubic interpolation, no network, and shrink."""

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.restorers.rescaling import Downsampler, UpDown


class Bicubic(nn.Module):
    """Enlarge by `scale` with a bicubic filter."""

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        return F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)


def build(*, scale: int = 2, downsample: Downsampler = "bicubic", rounds: int = 1) -> UpDown:
    """Bicubic up, linear downsampler back."""
    return UpDown(Bicubic(scale), scale=scale, downsample=downsample, rounds=rounds)
