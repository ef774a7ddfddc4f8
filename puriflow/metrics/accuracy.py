"""Accuracy with its interval, and cross-entropy, from logits of one answer or of several."""

from typing import assert_never

import numpy as np
import scipy  # whose packages are imported when they are used: planning needs none

from puriflow.metrics.rules import InLoop, OfAnswers


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of logits or votes (n, classes) are highest at their label: bool (n,).

    Of several that are highest, the first is the answer, as of any argmax.
    """
    return logits.argmax(axis=1) == labels


def judged(logits: np.ndarray, labels: np.ndarray, rule: OfAnswers) -> np.ndarray:
    """How right a random defence is about each image: (n,) in [0, 1].

    The logits are (n, draws, classes).
    """
    answers = logits.argmax(axis=2)
    right = answers == labels[:, None]
    if rule == "first":
        return right[:, 0].astype(float)
    if rule == "average":
        return right.mean(axis=1)
    if rule == "others":
        return right[:, 1:].mean(axis=1)
    if rule == "worst":
        return right.all(axis=1).astype(float)
    if rule == "mean-logits":
        return correct(logits.mean(axis=1), labels).astype(float)
    if rule == "majority":
        votes = (answers[:, :, None] == np.arange(logits.shape[2])).sum(axis=1)  # (n, classes)
        return correct(votes, labels).astype(float)  # of a tie the smallest class, as robust-eval
    assert_never(rule)


def judged_in_loop(wrong: np.ndarray, voted_wrong: np.ndarray) -> dict[InLoop, np.ndarray]:
    """The same by answers at several steps of an attack, of which the worst counts: (n,) by rule.

    Args:
        wrong: (n, steps), the share of wrong draws.
        voted_wrong: (n, steps) bool, whether their vote is wrong.
    """
    return {
        "in-loop-average": 1.0 - wrong.max(axis=1),
        "in-loop-majority": (~voted_wrong).all(axis=1).astype(float),
        "in-loop-worst": (wrong == 0).all(axis=1).astype(float),
    }


def wilson(hits: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share hits / count, in [0, 1].

    Hits need not be whole: the mean over draws is taken as if each image were one trial, which is
    cautious.
    """
    z = float(scipy.stats.norm.ppf(0.5 + confidence / 2))
    share, weight = hits / count, z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (share * (1 - share) / count + weight / (4 * count)) ** 0.5
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return min(low, share), max(high, share)  # which rounding leaves out at 0 and 1


def accuracy(right: np.ndarray) -> tuple[float, float, float]:
    """Percent of images that are right, (n,) in [0, 1], and its 95 % Wilson interval."""
    hits, count = float(right.sum()), len(right)
    low, high = wilson(hits, count)
    return 100 * hits / count, 100 * low, 100 * high


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of every sample (n,), in nats."""
    logits = logits.astype(np.float64)
    return scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
