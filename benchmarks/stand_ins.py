"""Stand-ins of what the paper track reads: official files with random weights, and images.

A network is built by its entry of the zoo, at whatever size the entry says, and written as its
authors' code writes it. Where that keeps averaged weights beside the last ones, the last ones are
wrong ones here, so that whoever takes these gets another network.
"""

import argparse
import hashlib
import operator
import pickle
import sys
import types
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, fx, nn
from torch.nn import functional as F

from puriflow.atomic import sha256
from puriflow.datasets.folder import wnids
from puriflow.registry import family_named, part_of
from puriflow.yaml_files import dump_yaml
from puriflow.zoo.catalogue import Entry

State = dict[str, Tensor]


def network_of(name: str, entry: Entry, weights: Path | None = None) -> nn.Module:
    """The network of an entry: with weights of a file, or with those that stand for them."""
    torch.manual_seed(zlib.crc32(name.encode()))
    family, part = entry.family, entry.part
    if family == "features":  # which keep a part of a classifier
        family, part = "classifiers", {"kind": "pretrained", "library": "torchvision"}
        part["name"] = entry.part["kind"]
    role = family_named(family).roles[0]
    built = part_of(role, name, {**part, "weights": weights and str(weights)}).build().network
    return getattr(built, "model", built) if part["kind"] == "robustbench" else built


def write_weights(name: str, entry: Entry, folder: Path) -> Path:
    """Write the stand-in of an entry's official file, under its official name."""
    network, file = network_of(name, entry), folder / entry.file
    if entry.convert == "edm":
        _write_edm(network, file)
    elif entry.convert and entry.convert.startswith("ncnn:"):
        write_wheel(file, {entry.convert.partition(":")[2]: ncnn_pair(network)})
    else:
        torch.save(CONTAINERS.get(name, dict)(network.state_dict()), file)
    return file


def write_zoo(entries: Mapping[str, Entry], folder: Path) -> Path:
    """Write stand-ins of entries, and a zoo file that has their hashes for the official ones."""
    listed = {}
    for name, entry in entries.items():
        file = write_weights(name, entry, folder)
        said = entry.model_dump(exclude_none=True, exclude={"size", "md5"})
        listed[name] = {**said, "sha256": sha256(file)}
    catalogue = folder / "zoo.yaml"
    catalogue.write_text(dump_yaml(listed))
    return catalogue


def _wrong(state: State) -> State:
    return {key: 1 - value for key, value in state.items()}


def _prefixed(state: State, prefix: str = "module.") -> State:
    return {prefix + key: value for key, value in state.items()}


def _score_sde(state: State) -> dict[str, Any]:
    """With Adam's moments; the averages are a list in the order of the parameters."""
    averages = [value for key, value in state.items() if key != "sigmas"]
    moments = {
        i: {"step": 1, "exp_avg": torch.zeros_like(a), "exp_avg_sq": torch.zeros_like(a)}
        for i, a in enumerate(averages)
    }
    return {
        "optimizer": {"state": moments, "param_groups": [{"lr": 2e-4, "params": [*moments]}]},
        "model": _prefixed({**_wrong(state), "sigmas": state["sigmas"]}),
        "ema": {"decay": 0.9999, "num_updates": 1, "shadow_params": averages},
        "step": 1,
    }


def _bai(state: State) -> dict[str, Any]:
    arguments = argparse.Namespace(model="deit_small_patch16_224", lr=5e-4, epochs=100)
    return {"model": state, "optimizer": {"state": {}}, "epoch": 99, "args": arguments}


def _eight_norms(state: State) -> State:
    """Eight norms of twice the channels and a depthwise convolution in the place of each norm."""
    found = {}
    for key, value in state.items():
        norm, _, last = key.rpartition(".")
        if f"{norm}.running_mean" not in state:
            found[key] = value
        elif last in ("weight", "bias"):
            shape = (-1, 1, 1, 1) if last == "weight" else (-1,)
            found[f"{norm}.aff.bnconv.{last}"] = value.reshape(shape)
        else:
            wrong = 1 - value
            both = torch.cat([value, wrong]) if value.ndim else value
            for i in range(8):
                found[f"{norm}.bn{i}.proxy_bn.{last}"] = both if i == 0 else 1 - both
    return found


# What lies around the weights; a plain state dict otherwise.
CONTAINERS: dict[str, Callable[[State], Any]] = {
    "score-sde-cifar10": _score_sde,
    "real-esrgan-x2": lambda state: {"params": state},
    "real-esrgan-x8": lambda state: {"params_ema": state, "params": _wrong(state)},
    "real-esrgan-x2plus": lambda state: {"params_ema": state},
    "real-esrgan-x4plus": lambda state: {"params_ema": state},
    "esrgan-x4": lambda state: {_older(key): value for key, value in state.items()},
    "deit-s": lambda state: {"model": state},
    "wrn-70-16": lambda state: {"model_state_dict": _prefixed(state, "module.0.")},
    "wrn-70-16-dropout": _prefixed,
    "bai2021-res50": lambda state: _bai(_prefixed(_eight_norms(state))),
    "bai2021-deit-s": _bai,
    "engstrom2019-res50": lambda state: {"state_dict": _prefixed(state, "module.model.")},
    "salman2020-res50": lambda state: {"state_dict": _prefixed(state), "epoch": 89},
    "pang2022-wrn-28-10": _prefixed,
}


def _older(key: str) -> str:
    """ESRGAN's first names."""
    for new, old in (("conv_body", "trunk_conv"), ("conv_up", "upconv"), ("conv_hr", "HRconv")):
        key = key.replace(new, old)
    return key.replace("rdb", "RDB").replace("body.", "RRDB_trunk.")


# ncnn's pairs


# A function of torch by the layer of ncnn that computes it, and its options.
LAYERS: dict[Callable, tuple[str, str]] = {
    operator.add: ("BinaryOp", "0=0"),
    operator.sub: ("BinaryOp", "0=1"),
    operator.mul: ("BinaryOp", "0=2"),
    torch.cat: ("Concat", ""),
    torch.sigmoid: ("Sigmoid", ""),
    F.interpolate: ("Interp", "0=1 1=2.0 2=2.0"),
    F.silu: ("Swish", ""),
}


class Layers(fx.Tracer):
    """Sees modules that are a layer of ncnn as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.ReLU | nn.PixelShuffle)


def ncnn_pair(network: nn.Module, *, half: bool = True) -> tuple[str, bytes]:
    """A network as ncnn's `.param` and `.bin`; weights of convolutions are halved, or not."""
    network = getattr(network, "model", network)  # SRMD's, behind its maps
    modules, lines, data, names = dict(network.named_modules()), [], b"", {}
    for node in Layers().trace(network).nodes:
        module, names[node] = modules.get(str(node.target)), node.name
        kind, options = "Input", ""
        if node.target is F.leaky_relu or isinstance(module, nn.ReLU):  # a part of a convolution
            lines[-1] += " 9=1" if module else f" 9=2 -23310=1,{node.kwargs['negative_slope']:e}"
            names[node] = names[node.args[0]]
            continue
        if node.op == "output":
            continue
        if isinstance(module, nn.Conv2d):
            kind, (side, _), weight = "Convolution", module.kernel_size, module.weight
            options = f"0={len(weight)} 1={side} 4={side // 2} 5=1 6={weight.numel()}"
            stored = weight.detach().half() if half else weight.detach().float()
            data += (0x01306B47 if half else 0).to_bytes(4, "little") + stored.numpy().tobytes()
            data += bytes(2 * half * (weight.numel() % 2))
            data += module.bias.detach().float().numpy().tobytes()
        elif isinstance(module, nn.PixelShuffle):
            kind, options = "PixelShuffle", f"0={module.upscale_factor}"
        elif node.op == "get_attr":
            constant = getattr(network, node.target)
            kind, sides = "MemoryData", enumerate(reversed(constant.shape))
            options = " ".join(f"{i}={side}" for i, side in sides)
            data += constant.float().numpy().tobytes()
        elif node.op == "call_function":
            kind, options = LAYERS[node.target]
            for number in (one for one in node.args if isinstance(one, int | float)):
                options += f" 1=1 2={number:e}"
        blobs = [names[one] for one in node.all_input_nodes]
        words = (kind, node.name, str(len(blobs)), "1", *blobs, node.name, options)
        lines.append(" ".join(filter(None, words)))
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""]), data


def write_wheel(file: Path, pairs: Mapping[str, tuple[str, bytes]]) -> Path:
    """Write a wheel that has ncnn's pairs as data; its file's name has its own and its version."""
    name, version, *tag = file.stem.split("-")
    described = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {'-'.join(tag)}\n",
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
        for pair, (param, data) in pairs.items():
            wheel.writestr(f"{pair}.param", param)
            wheel.writestr(f"{pair}.bin", data)
        for member, text in described.items():
            wheel.writestr(f"{name}-{version}.dist-info/{member}", text)
    return file


# EDM's pickles


class _Persistent:
    """A module that is pickled as EDM's are: a function of theirs, source code, and the state."""

    def __init__(self, network: nn.Module):
        self.network = network

    def __reduce__(self) -> tuple[Callable, tuple[dict[str, Any]]]:
        state = {**self.network.__dict__, "_modules": _persistent_children(self.network)}
        # EDM keeps numpy's numbers, as attributes and among the arguments
        table = sys.modules["dnnlib.util"].EasyDict
        state["_init_kwargs"] = table(img_resolution=32, init_weight=np.sqrt(0.2))
        state["skip_scale"] = np.sqrt(0.5)
        meta = {"type": "class", "version": 6, "module_src": "import os", "state": state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def _persistent_children(network: nn.Module) -> OrderedDict[str, Any]:
    children = OrderedDict()
    for name, child in network._modules.items():
        children[name] = None if child is None else _Persistent(child)
        if isinstance(child, nn.ModuleDict):  # a class of torch: pickled as it is
            children[name] = nn.ModuleDict()
            children[name].__dict__["_modules"] = _persistent_children(child)
    return children


def _write_edm(network: nn.Module, file: Path) -> None:
    with edm_s_modules(), file.open("wb") as opened:
        about = {"loss_fn": None, "augment_pipe": None, "dataset_kwargs": {"path": "cifar10.zip"}}
        pickle.dump({"ema": _Persistent(network), **about}, opened)


@contextmanager
def edm_s_modules() -> Generator[None]:
    """Modules by the names that EDM's pickles ask for; loading one by them fails."""

    def reconstruct(meta: dict[str, Any]) -> None:
        raise AssertionError("the source in the pickle would be run here")

    table = type("EasyDict", (dict,), {"__module__": "dnnlib.util", "__qualname__": "EasyDict"})
    reconstruct.__module__ = "torch_utils.persistence"
    reconstruct.__qualname__ = reconstruct.__name__ = "_reconstruct_persistent_obj"
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = reconstruct
    sys.modules["dnnlib.util"].EasyDict = table
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


# Images


def write_imagenet(root: Path, count: int) -> None:
    """A tree of JPEGs as of ImageNet's validation set, in sizes that it has; the second is grey."""
    random, known = np.random.default_rng(0), wnids()
    for i in range(count):
        folder = root / known[37 * i % len(known)]
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        size = ((500, 375), (375, 500), (640, 480))[i % 3]
        image = small.resize(size, Image.Resampling.BICUBIC)
        image = image.convert("L") if i == 1 else image
        image.save(folder / f"ILSVRC2012_val_{i + 1:08}.JPEG", format="JPEG")


def write_cifar10(root: Path, count: int) -> str:
    """A test file as torchvision lays CIFAR-10 out; returns its md5, which is not the official."""
    random = np.random.default_rng(0)
    batch = {
        "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
        "labels": random.integers(0, 10, count).tolist(),
    }
    file = root / "cifar-10-batches-py" / "test_batch"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(batch))
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
