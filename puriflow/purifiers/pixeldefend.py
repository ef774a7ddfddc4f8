"""PixelDefend (Song et al., ICLR 2018): the likeliest image within eps, decoded value by value.

Pixels go by in raster order, of each R, then G given the new R, then B given both. A value becomes
the likeliest one within eps_defend of what it was, by a PixelCNN++ (Salimans et al. 2017) that sees
what was decoded before it. It is the release's sequential decoding, not ART's, which asks the model
about the given image alone and once. An argmax has no gradient: every attack sees the identity, as
the published BPDA does.

The network has PixelCNN++'s two streams, the rows above and what is left in the row, at full
resolution alone, and its mixture of discretised logistics; the release of PixelDefend has 256-way
softmax. Decoding keeps what each convolution has seen, so that an image costs one evaluation.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.fitting import check_side
from puriflow.options import Blocks, Channels, Fraction, Rounds, Side, Text, whole
from puriflow.purifiers.base import Callback
from puriflow.randomness import ImageNoise
from puriflow.straight_through import straight_through
from puriflow.zoo.weights import load_network

TRAINED_BY = "puriflow.training.pixels"
STEPS = 1  # for planning: decoding keeps what each convolution has seen
HALF = 1 / 255  # half of a bin, on [-1, 1]
NARROWEST = -7.0  # log scale of a logistic, as PixelCNN++ has it


class Causal(nn.Conv2d):
    """A convolution of rows down to its own, and of columns around it or to its left.

    A kernel of three columns is centred, one of two ends at its own column.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]):
        super().__init__(inputs, outputs, kernel)
        self.above, self.left = kernel[0] - 1, kernel[1] // 2
        self.right = kernel[1] - 1 - self.left

    # pyrefly: ignore[bad-override-param-name]  # `input` of Conv2d
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.left, self.right, self.above, 0)))


Run = Callable[[Causal, Tensor], Tensor]  # a convolution of all of its input, or of a part


class Part:
    """A convolution at some columns of a row, of which it is given its input there.

    What each of them has been given before is kept.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.shape, self.seen = shape, dict[Causal, Tensor]()
        self.row, self.columns = 0, slice(0, shape[2])

    def at(self, row: int, columns: slice) -> "Part":
        """The same at another place."""
        self.row, self.columns = row, columns
        return self

    def __call__(self, conv: Causal, x: Tensor) -> Tensor:
        n, height, width = self.shape
        if conv not in self.seen:
            padded = n, x.shape[1], height + conv.above, width + conv.left + conv.right
            self.seen[conv] = x.new_zeros(padded)
        seen, (high, wide) = self.seen[conv], conv.kernel_size
        start, stop = self.columns.start, self.columns.stop
        seen[:, :, self.row + conv.above, start + conv.left : stop + conv.left] = x[:, :, 0]
        patch = seen[:, :, self.row : self.row + high, start : stop - 1 + wide]
        return F.conv2d(patch, conv.weight, conv.bias)


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x: twice the channels."""
    return F.elu(torch.cat([x, -x], 1))


class Gated(nn.Module):
    """PixelCNN++'s gated residual block, maybe with what another stream says."""

    def __init__(self, width: int, kernel: tuple[int, int], *, other: bool, dropout: float):
        super().__init__()
        self.conv1 = Causal(2 * width, width, kernel)
        self.conv2 = Causal(2 * width, 2 * width, kernel)
        self.other = nn.Conv2d(2 * width, width, 1) if other else None
        self.dropout = dropout

    def forward(self, x: Tensor, other: Tensor | None, run: Run) -> Tensor:
        h = run(self.conv1, concat_elu(x))
        if self.other is not None and other is not None:
            h = h + self.other(concat_elu(other))
        h = F.dropout(concat_elu(h), self.dropout, self.training)
        value, gate = run(self.conv2, h).chunk(2, 1)
        return x + value * gate.sigmoid()


class PixelCNN(nn.Module):
    """The density of images whose values are whole numbers from 0 to 255.

    Args:
        image_size: of the images, which are square.
        width: channels.
        blocks: of each stream.
        mixtures: logistics of the mixture.
        dropout: while it is trained.
    """

    def __init__(self, *, image_size: int, width: int, blocks: int, mixtures: int, dropout: float):
        super().__init__()
        self.image_size, self.mixtures = image_size, mixtures
        self.above = Causal(4, width, (2, 3))
        self.row_above, self.before = Causal(4, width, (1, 3)), Causal(4, width, (2, 1))
        down = {"kernel": (2, 3), "other": False, "dropout": dropout}
        right = {"kernel": (2, 2), "other": True, "dropout": dropout}
        self.down = nn.ModuleList(Gated(width, **down) for _ in range(blocks))
        self.right = nn.ModuleList(Gated(width, **right) for _ in range(blocks))
        self.out = nn.Conv2d(2 * width, 10 * mixtures, 1)

    def rows(self, shifted: Tensor, run: Run) -> list[Tensor]:
        """What rows above say, by `shifted`: images (N, 4, h, w) on [-1, 1], a row down."""
        u, told = run(self.above, shifted), [run(self.row_above, shifted)]
        for block in self.down:
            u = block(u, None, run)
            told.append(u)
        return told

    def pixels(self, shifted: Tensor, told: list[Tensor], run: Run) -> Tensor:
        """The parameters of the mixture (N, 10 mixtures, h, w), by images a column to the right."""
        x = run(self.before, shifted) + told[0]
        for block, u in zip(self.right, told[1:], strict=True):
            x = block(x, u, run)
        return self.out(F.elu(torch.cat([x, -x], 1)))

    def log_likelihood(self, values: Tensor) -> Tensor:
        """In nats (N,), of images (N, 3, H, W) of whole numbers from 0 to 255."""
        check_side("this PixelCNN", values, self.image_size)
        x = known(values)

        def run(conv: Causal, x: Tensor) -> Tensor:
            return conv(x)

        down = F.pad(x, (0, 0, 1, 0))[:, :, :-1]
        right = F.pad(x, (1, 0))[:, :, :, :-1]
        mixture = Mixture(self.pixels(right, self.rows(down, run), run), self.mixtures)
        return mixture.log_likelihood(x[:, :3]).flatten(1).sum(1)

    def forward(self, values: Tensor, eps: int) -> Tensor:
        """Images (N, 3, H, W) of whole numbers, decoded within eps: as much work as one pass."""
        check_side("this PixelCNN", values, self.image_size)
        n, _, height, width = values.shape
        x = known(torch.zeros_like(values))
        part = Part((n, height, width))
        first = x.new_zeros(n, 4, 1, 1)
        near = torch.arange(-eps, eps + 1, device=x.device)
        if x.device.type == "meta":  # which has no numbers: memory is that of any pixel
            height, width = 1, 1
        for row in range(height):
            above = x[:, :, row - 1 : row] if row else torch.zeros_like(x[:, :, :1])
            told = self.rows(above, part.at(row, slice(0, above.shape[3])))
            for column in range(width):
                here = slice(column, column + 1)
                before = x[:, :, row : row + 1, column - 1 : column] if column else first
                own = [u[:, :, :, here] for u in told]
                parameters = self.pixels(before, own, part.at(row, here))
                window = (values[:, :, row, column, None] + near).clamp(0, 255)  # (N, 3, V)
                mixture = Mixture(parameters, self.mixtures)
                x[:, :3, row, column] = mixture.likeliest(scaled(window))
        return ((x[:, :3] + 1) * 127.5).round()


def scaled(values: Tensor) -> Tensor:
    """Whole numbers from 0 to 255 on [-1, 1]."""
    return values / 127.5 - 1


def known(values: Tensor) -> Tensor:
    """Images (N, 3, H, W) of whole numbers on [-1, 1], and a channel of ones: inside the image."""
    return torch.cat([scaled(values), torch.ones_like(values[:, :1])], 1)


class Mixture:
    """Discretised logistics (Salimans et al. 2017, section 2.1 and 2.2) of pixels.

    Args:
        parameters: (N, 10 k, H, W): k weights; means, log scales and colours' coefficients of each.
        k: logistics.
    """

    def __init__(self, parameters: Tensor, k: int):
        exact = parameters if parameters.dtype == torch.float64 else parameters.float()
        weights, rest = exact.split([k, 9 * k], 1)
        self.log_weights = weights.log_softmax(1)  # (N, k, H, W)
        means, log_scales, coefficients = rest.unflatten(1, (3, k, 3)).unbind(1)
        self.means = means.unbind(2)  # of each colour
        self.log_scales = log_scales.clamp_min(NARROWEST).unbind(2)
        self.coefficients = coefficients.tanh().unbind(2)

    def mean(self, colour: int, before: list[Tensor]) -> Tensor:
        """Of a colour (N, k, H, W), given those before it (N, 1, H, W)."""
        red_green, red_blue, green_blue = self.coefficients
        if colour == 0:
            return self.means[0]
        if colour == 1:
            return self.means[1] + red_green * before[0]
        return self.means[2] + red_blue * before[0] + green_blue * before[1]

    def log_bin(self, colour: int, x: Tensor, before: list[Tensor]) -> Tensor:
        """The log probability (N, k, H, W) of a value x (N, 1, H, W), of each logistic.

        As sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), it is exact however
        far x is from the mean: where it was one number for all, the first would be likeliest.
        """
        centred, inverse = x - self.mean(colour, before), (-self.log_scales[colour]).exp()
        below = F.logsigmoid(inverse * (centred + HALF))
        beyond = F.logsigmoid(inverse * (HALF - centred))
        inside = below + beyond + (-torch.expm1(-2 * HALF * inverse)).log()
        return torch.where(x < -0.999, below, torch.where(x > 0.999, beyond, inside))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """In nats (N, H, W), of images (N, 3, H, W) on [-1, 1]."""
        colours = list(x.split(1, 1))
        of_each = sum(self.log_bin(c, colours[c], colours[:c]) for c in range(3))
        return (self.log_weights + of_each).logsumexp(1)

    def likeliest(self, window: Tensor) -> Tensor:
        """Of values (N, 3, V) of one pixel on [-1, 1], the likeliest (N, 3), colour by colour."""
        weights, chosen = self.log_weights, list[Tensor]()
        for colour in range(3):
            candidates = window[:, colour, None, None]  # (N, 1, 1, V), along the width
            found = (weights + self.log_bin(colour, candidates, chosen)).logsumexp(1)
            best = candidates.gather(3, found.argmax(2, keepdim=True)[:, None])
            weights = weights + self.log_bin(colour, best, chosen)
            chosen.append(best)
        return torch.cat(chosen, 1)[:, :, 0, 0]


class PixelDefend(nn.Module):
    """Images (N, 3, H, W) in [0, 1], which are rounded to 255ths, to the same.

    Args:
        network: the density, a `PixelCNN`.
        eps_defend: how far a value may go, in 255ths.
    """

    def __init__(self, network: nn.Module, *, eps_defend: int):
        super().__init__()
        self.network, self.eps_defend = network, eps_defend

    def forward(
        self, images: Tensor, noise: ImageNoise, callback: Callback | None = None
    ) -> Tensor:
        """There is no reverse process, so no callback is called, and nothing is drawn."""
        return straight_through(self.decoded, images)

    @torch.no_grad()
    def decoded(self, images: Tensor) -> Tensor:
        """The likeliest images within eps_defend; copies of one, as EOT has them, at once.

        In float64: rounding by another batch would now and then choose another value, and with it
        all that follow.
        """
        values, network = (images.double() * 255).round(), deepcopy(self.network).double()
        if images.device.type == "meta":  # which has no numbers to be alike
            return network(values, self.eps_defend).to(images.dtype)
        distinct, places = values.unique(dim=0, return_inverse=True)
        return (network(distinct, self.eps_defend)[places] / 255).to(images.dtype)


def build(
    *,
    weights: Text | None,
    image_size: Side = 32,
    width: Channels = 160,
    blocks: Blocks = 5,
    mixtures: Rounds = 10,
    dropout: Fraction = 0.5,
    eps_defend: Annotated[int, whole(0, 255)] = 16,
) -> PixelDefend:
    """PixelDefend by the density in `weights`; the default numbers are those of its release."""
    network = PixelCNN(
        image_size=image_size, width=width, blocks=blocks, mixtures=mixtures, dropout=dropout
    )
    return PixelDefend(load_network(network, weights), eps_defend=eps_defend)
