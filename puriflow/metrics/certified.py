"""Certificates of randomised smoothing (Cohen et al. 2019), from counts of a noisy classifier.

The smoothed classifier g gives the class that a base classifier gives most often when Gaussian
noise is added to the image. Counts of the base classifier's answers tell, wrongly with a chance of
at most alpha, what g answers (PREDICT) and within which L2 radius no change of the image changes
that (CERTIFY). The base classifier may itself be random.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # whose packages are imported when they are used: planning needs none

ABSTAIN = -1  # in place of a class


class Certificate(NamedTuple):
    """What CERTIFY says of an image."""

    prediction: int  # the class of g, or ABSTAIN
    radius: float  # L2, on [0, 1] images; 0 where it abstains
    hits: int  # how many of the n draws gave the class that the n0 draws had chosen


def lower_bound(hits: int, count: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided lower bound of a chance, from hits in `count` draws.

    The bound is above the true chance with probability `alpha` at most.
    """
    return float(scipy.stats.beta.ppf(alpha, hits, count - hits + 1)) if hits else 0.0


def certify(selection: np.ndarray, counts: np.ndarray, sigma: float, alpha: float) -> Certificate:
    """CERTIFY: radius sigma Phi^-1(p), p the lower bound of the chance of the chosen class.

    The answers of n0 draws choose the class (`selection`), and those of n others bound its chance
    (`counts`), (classes,) each. The noise has standard deviation sigma on [0, 1]; the certificate
    is wrong with probability `alpha` at most.
    """
    chosen = int(selection.argmax())
    hits = int(counts[chosen])
    chance = lower_bound(hits, int(counts.sum()), alpha)
    if chance <= 0.5:
        return Certificate(ABSTAIN, 0.0, hits)
    return Certificate(chosen, float(sigma * scipy.stats.norm.ppf(chance)), hits)


def predict(counts: np.ndarray, alpha: float) -> int:
    """PREDICT: the commonest of answers (classes,), or ABSTAIN if it may not be that of g.

    A class that is returned is not that of g with probability `alpha` at most.
    """
    second, first = np.sort(counts)[-2:].tolist()
    close = scipy.stats.binomtest(first, first + second, 0.5).pvalue > alpha
    return ABSTAIN if close else int(counts.argmax())


def certified_hits(
    predictions: np.ndarray, radii: np.ndarray, labels: np.ndarray, at: Sequence[float]
) -> list[int]:
    """How many images (n,) are answered rightly under every change within each radius of `at`."""
    right = predictions == labels
    return [int((right & (radii >= radius)).sum()) for radius in at]
