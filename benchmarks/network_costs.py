"""Parameters, MACs and memory of every network of a track, counted without running it.

    python benchmarks/network_costs.py [config/paper.yaml]

For a 224x224 image, 256 for the paper's diffusion network, 32 for CIFAR-10's. Memory is that of the
tensors which are alive at once for one more image, without the parameters (4 bytes each, once):
forwards, and for a gradient by the image. What a library takes for its own work comes on top.
"""

import sys
from dataclasses import replace

import torch

from puriflow.config import load_config
from puriflow.metrics.cost import cost_of
from puriflow.metrics.memory import memory_of
from puriflow.registry import family_named

SECTIONS = ("restorers", "networks", "classifiers")
CIFAR = ("ddpmpp", "edm", "wide-resnet", "dm-wide-resnet")
MIB = 2**20


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
