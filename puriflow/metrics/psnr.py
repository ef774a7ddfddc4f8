"""Peak signal-to-noise ratio, for the cards of trained networks."""

import math

from torch import Tensor


def psnr(images: Tensor, references: Tensor) -> float:
    """Of images (N, C, H, W) in [0, 1] against references, in dB, from the mean squared error."""
    error = (images - references).square().mean().item()
    return -10 * math.log10(error) if error else math.inf
