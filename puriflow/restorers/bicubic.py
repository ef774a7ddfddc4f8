"""The control that the paper lacks: enlarge by bicubic interpolation, no network, and shrink."""

from torch import nn

from puriflow.restorers.rescaling import Downsampler, UpDown


def build(*, scale: int = 2, downsample: Downsampler = "bicubic", rounds: int = 1) -> UpDown:
    """Bicubic up, linear downsampler back."""
    network = nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds)
