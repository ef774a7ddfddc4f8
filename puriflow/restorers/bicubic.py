"""The control that the paper lacks: enlarge by bicubic interpolation, no network, and shrink."""

from torch import nn

from puriflow.options import Downsampler, Rounds, Scale
from puriflow.restorers.rescaling import UpDown


def build(*, scale: Scale = 2, downsample: Downsampler = "bicubic", rounds: Rounds = 1) -> UpDown:
    """Bicubic up, linear downsampler back."""
    network = nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds)
