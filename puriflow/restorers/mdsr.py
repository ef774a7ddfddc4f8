"""MDSR, the multi-scale network of the EDSR paper (Lim et al. 2017), and its restorer.

One trunk serves several scales: each has its own first blocks and its own upsampler. Keys are those
of EDSR-PyTorch. The paper's best initialisation for diffusion (Table 7) is MDSR x2.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from puriflow.errors import UserError
from puriflow.options import Blocks, Channels, Downsampler, Rounds, Text, Whole, listed
from puriflow.restorers.edsr import RGB_RANGE, MeanShift, ResBlock, upsampler
from puriflow.restorers.rescaling import UpDown
from puriflow.zoo.weights import load_network


class MDSR(nn.Module):
    """The network: RGB in 0 to 255 in and out, no clamp.

    It can enlarge by `scales`; which one it does, `scale`, may be changed at any time.
    """

    def __init__(self, *, n_resblocks: int, n_feats: int, scales: Sequence[int] = (2, 3, 4)):
        super().__init__()
        self.scales = tuple(scales)
        self.scale = self.scales[0]
        self.sub_mean = MeanShift(RGB_RANGE, -1)
        self.add_mean = MeanShift(RGB_RANGE, 1)
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 3, padding=1))
        self.pre_process = nn.ModuleList(
            nn.Sequential(ResBlock(n_feats, 5), ResBlock(n_feats, 5)) for _ in self.scales
        )
        self.body = nn.Sequential(
            *(ResBlock(n_feats, 3) for _ in range(n_resblocks)),
            nn.Conv2d(n_feats, n_feats, 3, padding=1),
        )
        self.upsample = nn.ModuleList(upsampler(scale, n_feats) for scale in self.scales)
        self.tail = nn.Sequential(nn.Conv2d(n_feats, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, scale H, scale W)."""
        index = self.scales.index(self.scale)
        x = self.pre_process[index](self.head(self.sub_mean(x)))
        x = self.upsample[index](x + self.body(x))
        return self.add_mean(self.tail(x))


def build(
    *,
    weights: Text | None,
    n_resblocks: Blocks = 16,
    n_feats: Channels = 64,
    scale: Annotated[Literal[2, 3, 4, 8], Whole] = 2,
    scales: Annotated[
        Sequence[Annotated[Literal[2, 3, 4, 8], Whole]], listed(1, 4, "of 2, 3, 4, 8")
    ] = (2, 3, 4),
    downsample: Downsampler = "bicubic",
    rounds: Rounds = 1,
) -> UpDown:
    """MDSR up, linear downsampler back; the default numbers are the official baseline's.

    `scales` are those that the network has, `scale` is the one that is used.
    """
    if scale not in scales:
        raise UserError(f"mdsr has scales {', '.join(map(str, scales))}; {scale} is not among them")
    network = MDSR(n_resblocks=n_resblocks, n_feats=n_feats, scales=scales)
    network.scale = scale
    load_network(network, weights)
    return UpDown(network, scale=scale, downsample=downsample, rounds=rounds, rgb_range=RGB_RANGE)
