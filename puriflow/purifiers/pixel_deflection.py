"""Pixel deflection (Prakash et al. 2018): some values are overwritten by others from near by.

A deflection takes a colour of a pixel, both drawn at random, and puts there what the same colour is
at a pixel drawn from the window around it. As in the authors' released code, 200 are 200 values of
one colour, not of three. What follows in the paper is wavelet denoising, with the same settings as
the restorer `wavelet`; an attack sees the identity in its place, and the exact gradient of the
deflections. Their map of where a classifier attends, in which deflections are rarer, is left out:
neither its classes nor their weights are published.
"""

import torch
from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.options import Count, Rounds
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise
from puriflow.restorers.wavelet import build as wavelet


class PixelDeflection(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same.

    Args:
        deflections: how many.
        window: how far a value may come from, along each axis, in pixels.
        denoise: whether wavelet denoising follows.
    """

    def __init__(self, *, deflections: int, window: int, denoise: bool):
        super().__init__()
        self.deflections, self.window = deflections, window
        self.denoised = wavelet() if denoise else nn.Identity()

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        if min(images.shape[-2:]) < 2:
            raise UserError("pixel-deflection needs images of two pixels and more along each axis")
        sources = self.sources(images, noise).to(images.device)
        deflected = images.flatten(2).gather(2, sources).view_as(images)
        return self.denoised(deflected)

    def sources(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Where each value comes from (N, 3, H * W), after all deflections one by one."""
        n, channels, height, width = images.shape
        uniform = torch.zeros(n, 5, self.deflections)
        channel, row, column, down, right = noise.uniform_like(uniform, 0, 1).double().unbind(1)
        channel, row, column = (
            (values * count).long().clamp(max=count - 1)
            for values, count in ((channel, channels), (row, height), (column, width))
        )
        from_row = self.near(row, down, height)
        from_column = self.near(column, right, width)
        to, origin = row * width + column, from_row * width + from_column
        found = torch.arange(height * width).repeat(n, channels, 1)
        rows = torch.arange(n)
        for k in range(self.deflections):  # one after the other: a value may be deflected again
            at = rows, channel[:, k]
            found[*at, to[:, k]] = found[*at, origin[:, k]]
        return found

    def near(self, place: Tensor, uniform: Tensor, length: int) -> Tensor:
        """A place of an axis in the window around one, cut to the image; all are as likely."""
        low = (place - self.window).clamp(min=0)
        high = (place + self.window).clamp(max=length - 1)
        count = high - low + 1
        return low + (uniform * count).long().minimum(count - 1)


def build(
    *, deflections: Count = 200, window: Rounds = 10, denoise: bool = True
) -> PixelDeflection:
    """Pixel deflection; the default numbers are those of Prakash et al.'s code."""
    return PixelDeflection(deflections=deflections, window=window, denoise=denoise)
