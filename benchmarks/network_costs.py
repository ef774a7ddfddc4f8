"""Parameters, MACs and memory of every network of a track, counted without running it.

    python benchmarks/network_costs.py [config/paper.yaml]

For a 224x224 image, 256 for the paper's diffusion network, 32 for CIFAR-10's. Memory is that of the
tensors which are alive at once for one more image, without the parameters (4 bytes each, once):
forwards, and for a gradient by the image. What a library takes for its own work comes on top.
"""

import sys
import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from puriflow.config import load_config
from puriflow.metrics.cost import cost_of
from puriflow.registry import family_named

SECTIONS = ("restorers", "networks", "classifiers")
CIFAR = ("ddpmpp", "edm", "wide-resnet", "dm-wide-resnet")
MIB = 2**20


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on; `most` is their largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if tensor(leaf)}
        for leaf in tree_leaves(made):
            storage = leaf.untyped_storage() if tensor(leaf) else None
            if storage is not None and storage not in self.seen and id(storage) not in given:
                self.seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size


def tensor(leaf: object) -> bool:
    """Whether it is a tensor."""
    return isinstance(leaf, Tensor)


def memory_of(network: nn.Module, side: int, *levels: float) -> tuple[int, int]:
    """Bytes alive at most for one image (1, 3, side, side): forwards, and for its gradient."""
    network.to("meta").eval().requires_grad_(False)
    more = [torch.full((1,), level, device="meta") for level in levels]
    found = []
    for gradient in (False, True):
        image = torch.zeros(1, 3, side, side, device="meta", requires_grad=gradient)
        with torch.set_grad_enabled(gradient), Alive() as alive:
            out = network(image, *more)
            if gradient:
                torch.autograd.grad(out.sum(), image)
        found.append(alive.most)
        del out
    return found[0], found[1]


def main(file: str) -> None:
    """Print one line for each network."""
    config = load_config(file)
    print(f"{'role':28} {'parameters':>14} {'GMACs':>9} {'MiB':>7} {'gradient':>9}  image")
    for section in SECTIONS:
        role = family_named(section).roles[0]
        for name in getattr(config, section):
            if config.why_unavailable(role, name) is not None:
                continue
            part = config.part(role, name)
            if part.kind in ("bai2021", "robustbench"):
                continue
            # older timm asks for numbers while it builds, which the meta device has not
            with torch.device("meta" if part.weights and "library" not in part.options else "cpu"):
                built = replace(part, weights=None).build()
            if not hasattr(built, "network"):
                continue
            side = 32 if part.kind in CIFAR else 224
            if part.kind == "adm" and config.track == "paper":
                side = 256
            levels = [0.5] if section == "networks" else []
            cost = cost_of(built.network, side, *levels)
            forwards, gradient = (b / MIB for b in memory_of(built.network, side, *levels))
            counted = (
                f"{cost.parameters:14,} {cost.macs / 1e9:9.2f} {forwards:7.0f} {gradient:9.0f}"
            )
            print(f"{name:28} {counted}  {side}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml")
