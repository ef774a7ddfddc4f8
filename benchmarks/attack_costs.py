"""What adaptive attacks ask of a diffusion network, counted: the GPU hours of Tables 1 to 4 and 6.

    python benchmarks/attack_costs.py [config/paper.yaml]

Counted as puriflow.evaluations does, of every attack of a table through a purifier.
Hours are for 512 images at 25 TFLOP/s: what a GeForce RTX 4090 does of the ADM in the paper's Table
9. Restorers, classifiers and the draws of an evaluation come on top.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from puriflow.chain import victim_roles
from puriflow.config import Config, load_config
from puriflow.evaluations import evaluations, passes
from puriflow.metrics.cost import cost_of
from puriflow.registry import NONE, Part
from puriflow.results import load_result

IMAGES, RATE = 512, 25e12
TABLES = ("table1", "table2", "table3", "table4", "table6")


def macs(network: Part) -> int:
    """MACs of one evaluation."""
    with torch.device("meta"):
        built = replace(network, weights=None).build().network
    return cost_of(built, 256 if network.kind == "adm" else 32, 0.5).macs


def main(track: Config) -> None:
    """Print a line for each attack through a purifier."""
    passes_of = cache(lambda name: passes(track.part("attack", name)))
    macs_of = cache(lambda name: macs(track.part("network", name)))
    print("passes  gradients  evaluations  GPU hours  of 512 images")
    for name in TABLES:
        table = load_result(Path("config/tables") / f"{name}.yaml")
        for row in table.items():
            for chain in table.chains(track, row)[1]:
                through = victim_roles(chain.victim)["purifier"]
                if through == NONE:
                    continue
                purifier = track.part("purifier", through)
                forwards, gradients = passes_of(chain.attack)
                total = forwards * evaluations(purifier, gradient=False)
                own = track.part("attack", chain.attack).options.get("gradient") == "surrogate"
                total += gradients * evaluations(purifier, gradient=True, surrogate=own)
                hours = IMAGES * total * 2 * macs_of(purifier.network.name) / RATE / 3600
                what = f"{name}, {row.method}: {chain.attack} through {through}"
                print(f"{forwards:6} {gradients:10} {total:12,} {hours:10,.0f}  {what}", flush=True)


if __name__ == "__main__":
    main(load_config(sys.argv[1] if len(sys.argv) > 1 else "config/paper.yaml"))
