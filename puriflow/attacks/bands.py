"""Low frequencies of images: the lowest bands of their discrete cosine transform (DCT-II).

A restorer that scales up and down again is a low-pass filter, so an attack on it may keep to the
frequencies that it lets through.
"""

from functools import lru_cache

import torch
from torch import Tensor

from puriflow.errors import UserError


@lru_cache(maxsize=16)
def dct_basis(size: int, count: int) -> Tensor:
    """The `count` lowest of the orthonormal DCT-II vectors of a size, as rows, in float64."""
    place = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = torch.arange(count, dtype=torch.float64)[:, None]
    basis = (2 / size) ** 0.5 * torch.cos(torch.pi / size * frequency * place)
    basis[0] /= 2**0.5
    return basis


def low_pass(x: Tensor, bands: float) -> Tensor:
    """The part of x (N, C, H, W) in the lowest bands, of which there are `bands` times H and W.

    Raises:
        UserError: that is less than one band.
    """
    height, width = (_smoothing(size, bands).to(x) for size in x.shape[-2:])
    return height @ x @ width


@lru_cache(maxsize=16)
def _smoothing(size: int, bands: float) -> Tensor:
    """The matrix (size, size) that leaves the lowest bands."""
    count = round(bands * size)
    if count < 1:
        raise UserError(f"bands is {bands:g}, which of {size} pixels is none: 1/{size} or more")
    basis = dct_basis(size, count)
    return basis.T @ basis
