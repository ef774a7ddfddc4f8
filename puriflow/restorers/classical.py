"""What the classical denoisers of scikit-image have in common: one image at a time, on the CPU.

They are the alternatives that the paper's Table 7 holds super-resolution against. None has a
gradient; an attack that goes through one sees the identity (BPDA).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.straight_through import straight_through


class Classical(nn.Module):
    """A denoiser of scikit-image with its options, as a module on [0, 1] images."""

    def __init__(self, denoise: Callable[..., np.ndarray], **options: Any):
        super().__init__()
        self.denoise = partial(denoise, **options, channel_axis=-1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range."""
        return straight_through(self._denoised, images)

    def _denoised(self, images: Tensor) -> Tensor:
        pixels = images.detach().permute(0, 2, 3, 1).cpu().numpy()
        out = np.stack([self.denoise(image) for image in pixels]).astype(np.float32)
        out = out.reshape(pixels.shape)  # scikit-image drops the axes of an image of one pixel
        return torch.from_numpy(out).permute(0, 3, 1, 2).clamp(0, 1).to(images.device)
