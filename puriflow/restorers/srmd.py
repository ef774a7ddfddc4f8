"""SRMD: "Learning a Single Convolutional Super-Resolution Network for Multiple Degradations".

Zhang et al. (2018) give the network, beside the image, maps of how it was degraded, each the same
at all pixels: a blur kernel by its first fifteen principal components, and the level of noise.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from puriflow.options import Blocks, Channels, Downsampler, Rounds, Text, Whole, real
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network

# The components are of a basis that is not published with the weights. These, of the one kernel
# that srmd-ncnn-vulkan knows, are in its program (srmd_preproc.comp).
KERNEL = (
    *(-1.12360956e-08, -1.36899159e-08, 1.85637958e-02, 2.86066886e-08, 3.35292965e-02),
    *(8.37272935e-08, -2.54424009e-07, -3.16234976e-02, -1.35169253e-02, -1.10466090e-08),
    *(3.84753793e-02, 3.79465739e-08, -2.44916752e-01, -8.02213490e-01, -5.40549755e-01),
)


class SRMD(nn.Module):
    """The network: RGB in [0, 1] in and out, no clamp; convolutions, and a shuffle of pixels.

    Args:
        nc: channels.
        nb: convolutions.
        scale: 2, 3 or 4.
        noise: standard deviation of the noise that it takes to be in an image, of 255.
    """

    def __init__(self, *, nc: int, nb: int, scale: int, noise: float):
        super().__init__()
        self.degradation = (*KERNEL, noise / 255)
        inputs = [3 + len(self.degradation), *[nc] * (nb - 1)]
        outputs = [*inputs[1:], 3 * scale**2]
        convs = (nn.Conv2d(i, o, 3, padding=1) for i, o in zip(inputs, outputs, strict=True))
        layers = [layer for conv in convs for layer in (conv, nn.ReLU())]
        self.model = nn.Sequential(*layers[:-1], nn.PixelShuffle(scale))

    def given(self, x: Tensor) -> Tensor:
        """Images with their maps, (N, 19, H, W): what the convolutions are given."""
        maps = x.new_tensor(self.degradation).reshape(1, -1, 1, 1)
        return torch.cat([x, maps.expand(len(x), -1, *x.shape[-2:])], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        return self.model(self.given(x))


def build(
    *,
    weights: Text | None,
    nc: Channels = 128,
    nb: Blocks = 12,
    scale: Annotated[Literal[2, 3, 4], Whole] = 2,
    noise: Annotated[float, real(0, 75, " of 255")] = 3.0,
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """SRMD up, linear downsampler back; the default numbers are the official ones.

    It was trained for `noise` up to 75; srmd-ncnn-vulkan takes 3 by default.
    """
    network = SRMD(nc=nc, nb=nb, scale=scale, noise=noise)
    return UpDown(load_network(network, weights), scale=scale, downsample=downsample, rounds=rounds)
