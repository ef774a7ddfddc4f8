"""What parts share. It counts as their code: an edit of it reruns what they made."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (N, 3, H, W) blurred by a Gaussian of `sigma` pixels, cut off at three of them."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-((steps / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).repeat(3, 1, 1, 1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights, groups=3)
    return F.conv2d(rows, weights.transpose(2, 3), groups=3).clamp(0, 1)
