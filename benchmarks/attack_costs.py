"""What adaptive attacks ask of a diffusion network, counted: the GPU hours of Tables 1 to 4 and 6.

    python benchmarks/attack_costs.py [config/paper.yaml]

Every attack of a table through a purifier is run, with the track's settings, on one image of 32x32
pixels and a victim that it never fools: the most that an image can cost, since most attacks leave
an image alone that is misclassified. Counted are the passes over the victim, then the evaluations
in a pass, and both are multiplied. A gradient through an evaluation counts as three: it is computed
twice (forwards, and again for the gradient), and its gradient by the image costs as much once more.
An iteration of ScoreOpt has a gradient of its own and counts as two, and as six with its gradient.
Hours are for 512 images at 25 TFLOP/s: what a GeForce RTX 4090 does of the ADM in the paper's Table
9. Restorers, classifiers and the draws of an evaluation come on top.
"""

import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from puriflow.attacks.base import Batch
from puriflow.chain import victim_roles
from puriflow.config import Config, load_config
from puriflow.defence import Defence
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.metrics.cost import cost_of
from puriflow.randomness import AttackNoise, ImageNoise
from puriflow.registry import NONE, Part
from puriflow.results import load_result

recomputation.KEPT = -1  # every step is computed again, as those of large networks are
IMAGES, RATE = 512, 25e12
SIDE = 32  # of which a sixteenth of the DCT bands are some
TABLES = ("table1", "table2", "table3", "table4", "table6")


class Counted(nn.Module):
    """A network of no weight, which counts its evaluations without a gradient and with one."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = self.gradients = 0

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.gradients += len(x)
        else:
            self.forwards += len(x)
        return 0.1 * x


class Right(nn.Module):
    """A classifier of ten classes that always answers 0, and has a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.flatten(1).mean(1, keepdim=True)
        return 1e-3 * means * torch.arange(10.0) + torch.eye(10)[:1] * 100


def purifier_of(part: Part, network: nn.Module) -> nn.Module:
    """A purifier with another network, on images of their own size."""
    options = {key: value for key, value in part.options.items() if key != "resize"}
    denoiser = VPDenoiser(network)
    given: dict[str, nn.Module] = dict.fromkeys(part.inner, denoiser)
    if (guide := part.inner.get("classifier")) is not None:
        given["classifier"] = replace(guide, weights=None).build()
    return import_module(part.module).build(**given, **options)


def passes(attack: Part, one_step: Part) -> tuple[int, int]:
    """How often an attack asks a victim that it never fools: without a gradient, and with one."""
    network, image = Counted(), torch.full((1, 3, SIDE, SIDE), 0.5)
    purifier = purifier_of(one_step, network)
    purifier.surrogate = lambda: purifier
    victim = Defence(None, purifier, Right())
    label = torch.zeros(1, dtype=torch.int64)
    attack.build()(Batch(victim, image, label, AttackNoise(0, [0])))
    return network.forwards - network.gradients, network.gradients


def evaluations(part: Part, *, gradient: bool, surrogate: bool = False) -> int:
    """Evaluations of the network in one pass of a purifier, as many as its time is worth."""
    network, image = Counted(), torch.full((1, 3, SIDE, SIDE), 0.5, requires_grad=gradient)
    purifier = purifier_of(part, network)
    with torch.set_grad_enabled(gradient):
        purify = purifier.surrogate() if surrogate else purifier
        purified = purify(image, ImageNoise(0, "", [0]))
        if gradient:
            purified.sum().backward()
    total = network.forwards + 2 * network.gradients
    if gradient and not surrogate and part.kind == "scoreopt":
        total += network.gradients  # an iteration's own gradient is differentiated as well
    return total


def macs(network: Part) -> int:
    """MACs of one evaluation."""
    with torch.device("meta"):
        built = replace(network, weights=None).build().network
    return cost_of(built, 256 if network.kind == "adm" else 32, 0.5).macs


def main(track: Config) -> None:
    """Print a line for each attack through a purifier."""
    vpsde = track.part("purifier", "vpsde-t100")
    one_step = replace(vpsde, options={"t": 1})
    passes_of = cache(lambda name: passes(track.part("attack", name), one_step))
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
