"""Is one defence better than another on the same images? Intervals of paired differences.

Two defences that see the same images are compared image by image, which takes the images' own
difficulty out of the comparison. Where every answer is right or wrong, only the images on which the
two differ say anything: McNemar's test, here with exact binomial chances, so that it is right for
twenty images too. Other outcomes (a mean over draws, a cross-entropy) take Student's interval.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta, t


class Paired(NamedTuple):
    """The mean difference of two outcomes over images, with its interval.

    Attributes:
        difference: mean of the first less the second.
        low: lower bound; NaN where the images cannot tell, because no two outcomes differ.
        high: upper bound.
        wins: images on which the first is higher.
        losses: images on which it is lower.
    """

    difference: float
    low: float
    high: float
    wins: int
    losses: int

    @property
    def side(self) -> int:
        """1 if the interval lies above zero, -1 if below, 0 if neither."""
        return int(self.low > 0) - int(self.high < 0)


def compare(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> Paired:
    """Compare outcomes of the same images, (n,) each.

    The interval is `discordant_interval` if every difference is -1, 0 or 1, else Student's.
    """
    differences = np.asarray(first, dtype=np.float64) - second
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    if np.isin(differences, (-1, 0, 1)).all():
        low, high = discordant_interval(wins, losses, len(differences), confidence)
    else:
        low, high = student_interval(differences, confidence)
    return Paired(float(differences.mean()), low, high, wins, losses)


def discordant_interval(
    wins: int, losses: int, count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of (wins - losses) / count, given how many images differ; NaN if none does.

    Clopper and Pearson's interval of the share of wins among the images that differ, so that it
    lies on one side of zero exactly where McNemar's exact two-sided test rejects.
    """
    differing = wins + losses
    if differing == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, wins, losses + 1) if wins else 0.0
    high = beta.ppf(1 - tail, wins + 1, losses) if losses else 1.0
    return tuple(float((2 * share - 1) * differing / count) for share in (low, high))


def student_interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of differences (n,); NaN of one alone."""
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    error = differences.std(ddof=1) / count**0.5
    half = t.ppf(0.5 + confidence / 2, count - 1) * error
    return float(differences.mean() - half), float(differences.mean() + half)
