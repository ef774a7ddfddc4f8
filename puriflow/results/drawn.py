"""What `puriflow.results.eot` measures of the images of a chain: draws of gradients, and answers.

It is kept image by image in a work store, from which a killed job goes on.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from puriflow.attacks.base import Attack, Batch, cross_entropy
from puriflow.compute import folded
from puriflow.defence import Defence
from puriflow.fitting import check_finite
from puriflow.metrics.eot import split_halves
from puriflow.progress import Progress
from puriflow.randomness import PURIFY, AttackNoise, ImageNoise
from puriflow.results.figures.sources import Sources
from puriflow.store import batches
from puriflow.store.work import Batch as Kept
from puriflow.store.work import Work

GRADIENT = "eot {}"  # the word that seeds the noise of gradients at a point
TOGETHER = 4  # images on a GPU, as in the attack stage
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measurement:
    """How the images of a chain are measured.

    Attributes:
        attacks: by their `eot_iter`, ascending.
        own: the `eot_iter` of which the attacked images are those where gradients are drawn.
        draws: of a half.
        n_draws: answers to each image, of the draws of the evaluate stage.
    """

    attacks: Mapping[int, Attack]
    own: int
    draws: int
    n_draws: int

    def of(self, batch: Batch) -> Arrays:
        """The arrays of a batch of N images.

        `cosines` (N, 2, levels) are those of `split_halves`, of the clean images and of the
        attacked ones; `answers` (N, 1 + attacks, n_draws, classes) are logits, of the clean images
        and of those of each attack.
        """
        attacked = {n: attack(batch)["x_adv"].detach() for n, attack in self.attacks.items()}
        points = {"clean": batch.images, "attacked": attacked[self.own]}
        halves = [
            split_halves(gradients(batch, x, GRADIENT.format(point), 2 * self.draws))
            for point, x in points.items()
        ]
        asked = (batch.images, *attacked.values())
        return {
            "cosines": np.stack(halves, axis=1),
            "answers": np.stack([answers(batch, x, self.n_draws) for x in asked], axis=1),
        }

    def of_all(
        self, chains: list[Callable[[], Defence]], sources: Sources, work: Work
    ) -> list[Arrays]:
        """The arrays of all images of each chain; what is kept in `work` is not computed again.

        There the positions are those of the images of the first chain, then of the second, ...
        """
        count, size = len(sources.clean), 1 if sources.device.type == "cpu" else TOGETHER
        done = {i for start, stop in work.kept for i in range(start, stop)}
        with Progress("eot", total=len(chains) * count, done=len(done)) as progress:
            for chain, first in zip(chains, range(0, len(chains) * count, count), strict=True):
                if not (left := [i for i in range(count) if first + i not in done]):
                    continue
                victim = chain()
                for run in batches(left, size):
                    begun = time.perf_counter()
                    arrays = self.of(batch_of(victim, sources, run))
                    work.keep(Kept(first + run[0], arrays, time.perf_counter() - begun))
                    progress.advance(len(run))
        kept = [batch.arrays for batch in work.batches()]
        whole = {name: np.concatenate([arrays[name] for arrays in kept]) for name in kept[0]}
        each = {name: np.split(array, len(chains)) for name, array in whole.items()}
        return [{name: arrays[i] for name, arrays in each.items()} for i in range(len(chains))]


def batch_of(victim: Defence, sources: Sources, places: list[int]) -> Batch:
    """Some of the images as a batch under attack."""
    images, labels = (
        torch.from_numpy(array[places]).to(sources.device)
        for array in (sources.clean, sources.labels)
    )
    return Batch(victim, images, labels, AttackNoise(victim.seed, sources.indices[places].tolist()))


def gradients(batch: Batch, x: Tensor, step: str, count: int) -> Iterator[np.ndarray]:
    """Draws of the exact gradient of each image's cross-entropy at x, (N, 3, H, W) each.

    Args:
        batch: a victim with labels and noise.
        x: (N, 3, H, W) in place of the clean images.
        step: the word that seeds the draws.
        count: how many.

    Raises:
        UserError: one is NaN or infinite.
    """
    for draws in folded(x, range(count)):
        copies = x.repeat(len(draws), 1, 1, 1).requires_grad_()
        logits = batch.classify(batch.victim.purified(copies, batch.noise.victim(step, draws)))
        loss = cross_entropy(logits, batch.labels.repeat(len(draws)))
        (grad,) = torch.autograd.grad(loss.sum(), copies)
        check_finite(grad, "gradients")
        yield from grad.unflatten(0, (len(draws), -1)).cpu().numpy()


@torch.no_grad()
def answers(batch: Batch, x: Tensor, count: int) -> np.ndarray:
    """Logits (N, count, classes) of x, of the draws with which a defence is judged."""
    found = []
    for draws in folded(x, range(count)):
        noise = ImageNoise(batch.victim.seed, PURIFY, batch.noise.indices, draws)
        purified = batch.victim.purified(x.repeat(len(draws), 1, 1, 1), noise)
        found.append(batch.classify(purified).unflatten(0, (len(draws), -1)))
    return torch.cat(found).transpose(0, 1).cpu().numpy()
