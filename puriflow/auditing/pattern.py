"""A planted answer that survives purification: a smooth pattern behind the purifier.

In place of the classifier stands a detector of a pattern p of norm 1 in the lowest b x b DCT bands,
by the score <p, P(x)> of what the purifier makes of an image. x* = clip(x + eps sign(p)), in L2
clip(x + eps p), is known to have it: the threshold lies half way between the mean scores of draws
of x and of x*. Purifiers keep such bands, so x* is found under fresh noise, chance does not find
it, and an attack has to. It is a floor: through the identity it is found as well.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.attacks.ball import Ball
from puriflow.attacks.bands import dct_basis
from puriflow.attacks.base import Batch
from puriflow.auditing.case import Case
from puriflow.auditing.modules import Whole, two_classes
from puriflow.auditing.verdicts import KNOWN, Check, Undecidable, found
from puriflow.compute import folded
from puriflow.defence import Defence

BANDS = (8, 4, 2)  # the most that keep the known answer are the hardest to find
DRAWS, QUICK_DRAWS = 20, 8  # of each of two clouds
SHARPNESS = 10.0  # difference of logits between the two clouds


class Detector(nn.Module):
    """Two logits of a purified image: whether its score is above the threshold."""

    def __init__(self, pattern: Tensor, threshold: float, distance: float):
        super().__init__()
        self.register_buffer("pattern", pattern)
        self.threshold, self.scale = threshold, SHARPNESS / max(distance, 1e-12)

    def forward(self, purified: Tensor) -> Tensor:
        above = self.scale * (scores(purified, self.pattern) - self.threshold)
        return two_classes(torch.stack([-above / 2, above / 2], 1))


@dataclass(frozen=True)
class Planted:
    """A planted answer of one image: the batch, the known point, and rates over fresh draws."""

    batch: Batch
    known: float
    clean: float
    random: float


def scores(purified: Tensor, pattern: Tensor) -> Tensor:
    """<p, x> of each image (N,)."""
    return (purified * pattern).flatten(1).sum(1)


def smooth(coefficients: Tensor, height: int, width: int) -> Tensor:
    """The pattern (1, 3, H, W) of norm 1 whose DCT has these coefficients (1, 3, b, b)."""
    b = coefficients.shape[-1]
    rows, columns = (dct_basis(size, b).to(coefficients) for size in (height, width))
    pattern = rows.T @ coefficients @ columns
    return pattern / pattern.norm()


@torch.no_grad()
def plant(batch: Batch, ball: Ball, bands: int, draws: int) -> Planted:
    """The planted answer of a batch of one image."""
    x, victim = batch.images, batch.victim
    b = min(bands, *x.shape[2:])
    start = x.new_zeros(1, 3, b, b)
    coefficients = batch.noise.attacker(f"audit pattern {bands}").normal_like(start)
    pattern = smooth(coefficients, *x.shape[2:])
    linf = ball.norm == "Linf"
    known = (x + ball.eps * (pattern.sign() if linf else pattern)).clamp(0, 1)

    def cloud(images: Tensor, word: str) -> Tensor:
        groups = folded(images, range(draws))
        return torch.cat([scores(batch.purified(images, word, some), pattern) for some in groups])

    low, high = (float(cloud(y, "audit pattern").mean()) for y in (x, known))
    detector = Detector(pattern, (low + high) / 2, high - low)
    planted = replace(
        batch,
        victim=Defence(victim.restorer, victim.purifier, detector.to(x.device)),
        labels=torch.zeros_like(batch.labels),
    )

    def rate(images: Tensor) -> float:
        return float((cloud(images, "audit pattern fresh") > (low + high) / 2).double().mean())

    corner = batch.noise.attacker("audit corner").uniform_like(x, -1, 1).sign()
    by_chance = x + ball.eps * (corner if linf else corner / corner.norm())
    return Planted(planted, rate(known), rate(x), rate(by_chance.clamp(0, 1)))


def pattern(case: Case) -> Check:
    """The attack finds the pattern that is known to be there."""
    name, some = "pattern", case.few()
    case.check_bands()
    if isinstance(case.batch.victim.purifier, Whole):
        raise Undecidable(
            "what the module makes of an image before it classifies is not known",
            "give a puriflow.Defence, with its purifier",
        )
    singles = [some.batch.take([i]) for i in range(len(some.batch.images))]
    draws = (QUICK_DRAWS if case.quick else DRAWS) if case.random else 1
    planted: list[Planted] = []
    for bands in BANDS:
        planted = [plant(one, case.ball, bands, draws) for one in singles]
        if np.mean([p.known for p in planted]) >= KNOWN:
            break
    known, clean, chance = (
        float(np.mean([getattr(p, rate) for p in planted])) for rate in ("known", "clean", "random")
    )
    rates = f"b = {bands}, known point {known:.2f}, clean {clean:.2f}, random {chance:.2f}"
    if known < KNOWN:
        raise Undecidable(f"no pattern within eps survives the purifier ({rates})")
    asr = np.array([1 - some.right_under_planted(p.batch) for p in planted])
    said = f"planted patterns that the attack finds ({rates})"
    return found(name, asr, chance, said, case.larger(iterations=2))
