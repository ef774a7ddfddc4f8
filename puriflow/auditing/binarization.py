"""The binarization test (Zimmermann et al. 2022): an attack's unit test with a known answer.

The defence's features become those of a two-class problem about one image x: class 0 are x and
random inner points of its ball, class 1 a point at its border. A linear head is fitted that tells
them apart, and shifted until its boundary nearly touches that point. So an adversarial image is
known to exist, and the attack of the evaluation must find one. Behind a random purifier that point
is not answered so under fresh noise: then nothing follows (pattern.py has what survives).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Batch
from puriflow.auditing.case import Case
from puriflow.auditing.modules import Head, Tapped, Whole, with_classifier
from puriflow.auditing.verdicts import KNOWN, Check, Undecidable, found
from puriflow.compute import folded

INNER = 99  # random inner points, if there are more features
GAP, CLOSENESS = 0.05, 0.999
KNOWN_DRAWS, CHANCE_DRAWS = 20, 200


class Cannot(Exception):  # noqa: N818
    """No linear head separates the points."""


class Line(NamedTuple):
    """A two-class head: weight (2, features) and bias (2,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(N, 2)."""
        return features @ self.weight.T + self.bias


# Points, from uniform draws on [0, 1) in Linf and normal ones in L2


def inner_points(x: Tensor, draws: Tensor, ball: Ball, gap: float = GAP) -> Tensor:
    """Points of class 0; in L2, as released, all on the sphere of their radius."""
    radius = (1 - gap) * ball.eps
    if ball.norm == "L2":
        return rescaled(x, unit_rows(draws) * radius, radius, ball.norm)
    return (x + (2 * draws - 1) * radius).clamp(0, 1)


def surface_points(x: Tensor, draws: Tensor, ball: Ball) -> Tensor:
    """Points at distance eps also where [0, 1] cuts them off."""
    delta = unit_rows(draws) if ball.norm == "L2" else 2 * draws - 1
    return rescaled(x, delta * ball.eps, ball.eps, ball.norm)


def corner_points(x: Tensor, draws: Tensor, ball: Ball) -> Tensor:
    """Corners of the Linf ball from draws of 0 and 1; of L2, points of the sphere as they are."""
    delta = unit_rows(draws) if ball.norm == "L2" else 2 * draws - 1
    return (x + delta * ball.eps).clamp(0, 1)


def unit_rows(draws: Tensor) -> Tensor:
    """Each draw (3, H, W) at L2 length 1."""
    return draws / draws.flatten(1).norm(dim=1)[:, None, None, None]


def rescaled(x: Tensor, delta: Tensor, distance: float, norm: str) -> Tensor:
    """Points x + t delta, clipped to [0, 1], with t for each such that its distance is as given.

    In Linf, t makes the largest change among pixels that have room for it as large as `distance`.
    In L2 (Rauber and Bethge 2020) it is found by bisection.
    """
    room = torch.where(delta > 0, 1 - x, x)
    if norm == "Linf":
        free = torch.where(room >= distance, delta.abs(), 0.0).flatten(1).amax(1)
        t = distance / free.clamp(min=1e-12)
        return (x + t[:, None, None, None] * delta).clamp(0, 1)
    size, room = delta.double().abs().flatten(1), room.double().flatten(1)
    low, high = size.new_zeros(len(size)), size.new_full((len(size),), 1e4)
    for _ in range(100):
        t = (low + high) / 2
        short = torch.minimum(t[:, None] * size, room).norm(dim=1) < distance
        low, high = torch.where(short, t, low), torch.where(short, high, t)
    return (x + high[:, None, None, None] * delta.double()).clamp(0, 1).to(x.dtype)


# The head


def fit(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression without penalty, each class counted alike: (features,) and intercept.

    Raises:
        Cannot: it does not tell the classes apart.
    """
    middle, spread = features.mean(0), features.std() + 1e-12
    points = np.c_[(features - middle) / spread, np.ones(len(features))]
    sign = 2.0 * labels - 1
    weights = np.where(labels == 1, 0.5 / max(labels.sum(), 1), 0.5 / max((1 - labels).sum(), 1))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        m = sign * (points @ w)
        slope = -sign * weights * scipy.special.expit(-m)
        return float((weights * np.logaddexp(0, -m)).sum()), points.T @ slope

    start = np.zeros(points.shape[1])
    options = {"maxiter": 10_000, "gtol": 1e-6}
    w = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    if not (sign * (points @ w) > 0).all():
        raise Cannot
    coef = w[:-1] / spread
    return coef, float(w[-1] - coef @ middle)


def as_line(coef: Tensor, intercept: float) -> Line:
    """The head of a fitted line: its logits are half of the margin each, up to sign."""
    return Line(torch.stack([-coef, coef]), torch.tensor([-intercept, intercept]).to(coef))


def shifted(line: Line, raw: Tensor, closeness: float = CLOSENESS) -> Line:
    """The head with its boundary moved towards the most confident point of class 1.

    `raw` are its logits (N, 2) of the training points. Of several points of class 1, others may
    change sides.
    """
    d = float((raw[:, 0] - raw[:, 1]).min())
    return Line(line.weight, line.bias + line.bias.new_tensor([-0.5, 0.5]) * closeness * d)


def scaled(line: Line, raw: Tensor, low: float, high: float) -> Line:
    """The head with logits in the range of the classifier's; its boundary stays where it is."""
    least, most = float(raw.min()), float(raw.max())
    factor = (most - least) / (high - low)
    return Line(line.weight / factor, line.bias / factor + (low - least / factor))


# The test


def tapped(batch: Batch) -> Batch:
    """A batch whose victim gives features beside logits."""
    return replace(batch, victim=with_classifier(batch.victim, lambda c: Tapped(c, batch.images)))


def classes_of(batch: Batch) -> int:
    """Of a batch that is tapped, the number of the classifier's classes."""
    victim = batch.victim
    inner = victim.purifier.module if isinstance(victim.purifier, Whole) else victim.classifier
    return int(inner.classes)  # pyrefly: ignore


def of_points(batch: Batch, points: Tensor, word: str) -> Tensor:
    """What the victim of a batch of one says of points, each with a draw of its own."""
    said = []
    for some in folded(points[:1], range(len(points))):
        noise = batch.noise.victim(word, some)
        said.append(batch.victim.classify(batch.victim.purified(points[some], noise)))
    return torch.cat(said)


class Test(NamedTuple):
    """Of one image: its two-class problem, and how often fresh draws say 1 of points."""

    batch: Batch
    point: Tensor
    known: float
    clean: float


@torch.no_grad()
def made(batch: Batch, ball: Ball, random: bool) -> Test:
    """The two-class problem about a batch of one image.

    Raises:
        Cannot: no head separates its points.
        Undecidable: the classifier has no features.
    """
    x, with_features = batch.images, tapped(batch)
    both = with_features.victim.classify(with_features.purified(x, "audit binarization"))
    width = both.shape[1] - classes_of(with_features)
    count = max(1, min(INNER, width - 2))
    border = surface_points(x, drawn(batch, "border", 1, ball), ball)
    inner = inner_points(x, drawn(batch, "inner", count, ball), ball)
    points = torch.cat([x, inner, border])
    labels = np.r_[np.zeros(1 + count), 1]
    both = of_points(with_features, points, "audit binarization")
    features, logits = both[:, :width].double(), both[:, width:]
    coef, intercept = fit(features.cpu().numpy(), labels)
    line = as_line(torch.from_numpy(coef).to(features), intercept)
    raw = line.logits(features)
    line = scaled(shifted(line, raw), raw, float(logits.min()), float(logits.max()))
    weight, bias = line.weight.to(x.dtype), line.bias.to(x.dtype)
    victim = with_classifier(batch.victim, lambda c: Head(Tapped(c, x), weight, bias))
    two = replace(batch, victim=victim, labels=torch.zeros_like(batch.labels))
    draws = KNOWN_DRAWS if random else 1
    return Test(two, border, ones(two, border, draws), ones(two, x, draws))


def drawn(batch: Batch, what: str, count: int, ball: Ball) -> Tensor:
    """So many draws (count, 3, H, W) of an image: uniform in Linf, normal in L2."""
    start = batch.images.new_zeros(1, count, *batch.images.shape[1:])
    noise = batch.noise.attacker(f"audit {what}")
    return (noise.normal_like(start) if ball.norm == "L2" else noise.uniform_like(start, 0, 1))[0]


@torch.no_grad()
def ones(batch: Batch, x: Tensor, draws: int) -> float:
    """Share of draws that answer 1 of one image."""
    answers = of_points(batch, x.repeat(draws, 1, 1, 1), "audit known").argmax(1)
    return float((answers == 1).double().mean())


@torch.no_grad()
def by_chance(test: Test, ball: Ball) -> bool:
    """Whether any of many random points of the surface or of the ball is answered 1."""
    x = test.batch.images
    for what, place in (("surface", surface_points), ("ball", inner_points)):
        draws = drawn(test.batch, f"chance {what}", CHANCE_DRAWS, ball)
        points = place(x, draws, ball) if what == "surface" else inner_points(x, draws, ball, 0)
        if (of_points(test.batch, points, f"audit {what}").argmax(1) == 1).any():
            return True
    return False


def binarization(case: Case) -> Check:
    """The attack finds the adversarial image that is known to exist."""
    name, some, tests = "binarization", case.few(), []
    case.check_bands()
    count = len(some.batch.images)
    for i in range(count):
        try:
            tests.append(made(some.batch.take([i]), case.ball, case.random))
        except Cannot:
            continue
    if not tests:
        raise Undecidable(f"a linear head separates the points of none of {count} images")
    known, clean = (float(np.mean([getattr(t, r) for t in tests])) for r in ("known", "clean"))
    rates = f"{len(tests)} of {count} images; known point {known:.2f}, clean error {clean:.2f}"
    if known < KNOWN:
        raise Undecidable(
            f"under fresh noise the known point is not answered as planted ({rates})",
            "none: look at `pattern`, whose answer survives",
        )
    chance = float(np.mean([by_chance(test, case.ball) for test in tests]))
    asr = np.array([1 - some.right_under_planted(test.batch) for test in tests])
    said = f"known answers that the attack finds ({rates}, random search {chance:.2f})"
    return found(name, asr, chance, said, case.larger(iterations=2))
