"""Parameters and MACs of every network of a track, counted without running it.

    python benchmarks/network_costs.py [config/paper.yaml]

For a 224x224 image, 256 for the paper's diffusion network, 32 for CIFAR-10's.
"""

import sys

import torch

from puriflow import registry
from puriflow.config import load_config
from puriflow.metrics.cost import cost_of

FAMILIES = ("restorers", "networks", "classifiers")
CIFAR = ("ddpmpp", "edm", "wide-resnet", "dm-wide-resnet")


def main(file: str) -> None:
    """Print one line for each network."""
    config = load_config(file)
    print(f"{'role':28} {'parameters':>14} {'GMACs':>9}  image")
    for family in FAMILIES:
        for name, role in getattr(config, family).items():
            if role.unavailable or role.spec["kind"] in ("bai2021", "robustbench"):
                continue
            spec = config.spec(family, name)
            if "weights" in spec:
                spec["weights"] = None
            # older timm asks for numbers while it builds, which the meta device has not
            with torch.device(
                "meta" if "weights" in spec and spec.get("library") != "timm" else "cpu"
            ):
                part = registry.build(family, name, spec)
            if not hasattr(part, "network"):
                continue
            side = 32 if spec["kind"] in CIFAR else 224
            if spec["kind"] == "adm" and config.track == "paper":
                side = 256
            cost = cost_of(part.network, side, *([0.5] if family == "networks" else []))
            print(f"{name:28} {cost.parameters:14,} {cost.macs / 1e9:9.2f}  {side}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml")
