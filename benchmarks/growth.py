"""Does the cost grow with images, steps, draws and shards no faster than they do?

    python benchmarks/growth.py

CPU milliseconds of one of them where there are many, beside where there are few: 1.00 is in
proportion, below it a fixed cost is shared. By CIFAR-10, the mini track's EDM and wrn-28-10: images
of a purify stage with all of its files; steps of a purification of one image, and of its gradient;
draws of an evaluate stage; draws of an EOT gradient; shards of a purify stage (all of them
together, beside one).
"""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from ratios import Row, in_turns, one_thread, report

from puriflow.attacks import pgd
from puriflow.attacks.base import Batch
from puriflow.compute import own_process
from puriflow.config import Config, load_config
from puriflow.defence import Defence
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import AttackNoise, ImageNoise
from puriflow.stages.evaluate import write_evaluated
from puriflow.stages.images import write_images
from puriflow.stages.purify import write_purified
from puriflow.store import open_stage

ROUNDS = 3
IMAGES, STEPS, DRAWS, SHARDS = (2, 16), (15, 60), (2, 16), (1, 4)
CPU = torch.device("cpu")


class Ways:
    """What grows, by how many of it there are; stores lie in a folder."""

    def __init__(self, track: Config, folder: Path):
        self.track, self.folder = track, folder
        self.dataset = track.part("dataset", "cifar10")
        self.network = track.part("network", "edm").build()
        self.image = torch.from_numpy(self.dataset.build().image(0))[None]
        self.purifier = track.part("purifier", "ddpm-t100-4")
        self.classifier = track.part("classifier", "wrn-28-10")

    def store(self, images: int, shard: int = 0, shards: int = 1) -> Path:
        """A store of images, made once."""
        out = self.folder / f"images {images} {shard} {shards}"
        if not out.exists():
            write_images(out, self.dataset, subset=images, shard=shard, shards=shards)
        return out

    def images(self, count: int, shard: int = 0, shards: int = 1) -> None:
        """Purify a store."""
        source = open_stage(self.store(count, shard, shards))
        write_purified(source, self.folder / "purified", self.purifier, seed=0, device=CPU)

    def shards(self, count: int) -> None:
        """Purify the shards of as many images, whatever their number."""
        for shard in range(count):
            self.images(IMAGES[1], shard, count)

    def steps(self, count: int, *, gradient: bool = False) -> None:
        """Purify one image at t' = 100 by as many steps of Euler-Maruyama."""
        purify = VPSDE(self.network, t=100, evaluations=count)
        x = self.image.clone().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            purified = purify(x, ImageNoise(0, "benchmark", [0]))
        if gradient:
            torch.autograd.grad(purified.sum(), x)

    def draws(self, count: int) -> None:
        """Evaluate four images."""
        source = open_stage(self.store(4))
        parts = {"purifier": self.purifier, "classifier": self.classifier}
        out = self.folder / "evaluated"
        write_evaluated(source, out, **parts, n_draws=count, seed=0, device=CPU)

    def eot(self, count: int) -> None:
        """One step of PGD+EOT on one image."""
        victim = Defence(None, self.purifier.build(), self.classifier.build())
        labels = torch.zeros(1, dtype=torch.int64)
        attack = pgd.build(eps=8 / 255, step_size=2 / 255, n_iter=1, eot_iter=count)
        attack(Batch(victim, self.image, labels, AttackNoise(0, [0])))


def grown(what: str, way: Callable[[int], None], counts: tuple[int, int], per: int = 0) -> Row:
    """The cost of one where there are many, beside that where there are few.

    `per` is what the cost is divided by if that is not their number.
    """
    spent = in_turns({str(count): partial(way, count) for count in counts}, ROUNDS)
    few, many = (1000 * spent[str(count)] / (per or count) for count in counts)
    return Row(f"{what}, {counts[1]} beside {counts[0]}", many, few, "CPU ms")


def main(track: Config) -> None:
    """Print and write the ratios."""
    folder = Path(tempfile.mkdtemp())
    try:
        ways = Ways(track, folder)
        rows = [
            grown("images of a stage", ways.images, IMAGES),
            grown("steps", ways.steps, STEPS),
            grown("steps of a gradient", partial(ways.steps, gradient=True), STEPS),
            grown("draws of answers", ways.draws, DRAWS),
            grown("draws of a gradient", ways.eot, DRAWS),
            grown("shards of as many images", ways.shards, SHARDS, per=IMAGES[1]),
        ]
    finally:
        shutil.rmtree(folder)
    report(__file__, rows)


if __name__ == "__main__":
    own_process()
    one_thread()
    main(load_config())
