"""Pixel deflection (Prakash et al. 2018): some values are overwritten by others from near by.

A deflection takes a colour of a pixel, both drawn at random, and puts there what the same colour is
at a pixel drawn from the window around it. As in the authors' released code, 200 are 200 values of
one colour, not of three. What follows in the paper is wavelet denoising, with the same settings as
the restorer `wavelet`; an attack sees the identity in its place, and the exact gradient of the
deflections.

With a classifier, a pixel is left alone with the chance that a map gives it, their robust
activation map: the geometric mean of the class activation maps of the classes of highest logits,
brought to [0, 1]. How many classes is not published; here they are five, and the maps Grad-CAM's,
which are CAM's where a network ends with global pooling and a linear layer.
"""

import torch
from torch import Tensor, nn

from puriflow.metrics.gradcam import grad_cam
from puriflow.options import Count, Rounds
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise
from puriflow.restorers.wavelet import build as wavelet

CLASSES, TINY = 5, 1e-12


class PixelDeflection(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the same.

    Args:
        deflections: how many.
        window: how far a value may come from, along each axis, in pixels.
        denoise: whether wavelet denoising follows.
        classifier: on [0, 1] images, where it looks deflections are rarer; None for anywhere.
    """

    def __init__(
        self, *, deflections: int, window: int, denoise: bool, classifier: nn.Module | None = None
    ):
        super().__init__()
        self.deflections, self.window, self.classifier = deflections, window, classifier
        self.denoised = wavelet() if denoise else nn.Identity()

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called."""
        sources = self.sources(images, noise).to(images.device)
        deflected = images.flatten(2).gather(2, sources).view_as(images)
        return self.denoised(deflected)

    def sources(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Where each value comes from (N, 3, H * W), after all deflections one by one."""
        n, channels, height, width = images.shape
        uniform = torch.zeros(n, 5, self.deflections, device="cpu")
        channel, down, right, *place = noise.uniform_like(uniform, 0, 1).double().unbind(1)
        channel = scaled(channel, channels)
        row, column = self.places(images, *place)
        from_row = self.near(row, down, height)
        from_column = self.near(column, right, width)
        to, origin = row * width + column, from_row * width + from_column
        found = torch.arange(height * width, device="cpu").repeat(n, channels, 1)
        rows = torch.arange(n, device="cpu")
        for k in range(self.deflections):  # one after the other: a value may be deflected again
            at = rows, channel[:, k]
            found[*at, to[:, k]] = found[*at, origin[:, k]]
        return found

    def places(self, images: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of each deflection, by two numbers on [0, 1) each."""
        height, width = images.shape[-2:]
        if self.classifier is None:
            return scaled(first, height), scaled(second, width)
        # as likely as a pixel would be taken if one were drawn until it is not left alone
        taken = 1 - attention(self.classifier, images.detach()).flatten(1).double().cpu()
        total = taken.cumsum(1)
        place = torch.searchsorted(total, first * total[:, -1:])
        place = place.clamp(max=height * width - 1)
        return place // width, place % width

    def near(self, place: Tensor, uniform: Tensor, length: int) -> Tensor:
        """A place of an axis in the window around one, cut to the image; all are as likely."""
        low = (place - self.window).clamp(min=0)
        high = (place + self.window).clamp(max=length - 1)
        return low + scaled(uniform, high - low + 1)


def scaled(uniform: Tensor, count: int | Tensor) -> Tensor:
    """A whole number from 0 to count - 1 by a number on [0, 1)."""
    most = torch.as_tensor(count, device=uniform.device) - 1
    return torch.minimum((uniform * count).long(), most)


def attention(classifier: nn.Module, images: Tensor) -> Tensor:
    """Where a classifier looks (N, H, W), on [0, 1]; 0 where its maps are as high everywhere."""
    with torch.no_grad():
        logits = classifier(images)
    classes = logits.topk(min(CLASSES, logits.shape[1])).indices
    maps = torch.stack([grad_cam(classifier, images, one) for one in classes.unbind(1)])
    mean = maps.clamp_min(TINY).log().mean(0).exp()
    low, high = mean.amin((1, 2), keepdim=True), mean.amax((1, 2), keepdim=True)
    return (mean - low) / (high - low).clamp_min(TINY)


def build(
    *,
    classifier: nn.Module | None = None,
    deflections: Count = 200,
    window: Rounds = 10,
    denoise: bool = True,
) -> PixelDeflection:
    """Pixel deflection; the default numbers are those of Prakash et al.'s code."""
    return PixelDeflection(
        deflections=deflections, window=window, denoise=denoise, classifier=classifier
    )
