"""Is one defence better than another on the same images? Intervals of paired differences.

Two defences that see the same images are compared image by image, which takes the images' own
difficulty out of the comparison. Where every answer is right or wrong, only the images on which the
two differ say anything: McNemar's test, here with exact binomial chances, so that it is right for
twenty images too. A mean over draws takes Student's interval. Cross-entropies, errors, distances
and times have no bound and long tails, of which one image can drown nineteen: they take the
interval that belongs to Wilcoxon's signed-rank test.
"""

from typing import NamedTuple

import numpy as np
import scipy  # whose packages are imported when they are used: planning needs none

MANY = 2000  # images, whose mean has Student's interval even with long tails
FEW = 6  # differing images below which no exact test of a mean rejects at 95 %


class Paired(NamedTuple):
    """The mean of the first of two outcomes less the second, over images, with its interval.

    Of skewed outcomes, the difference is Hodges and Lehmann's estimate of what is typical. The
    bounds are NaN where the images cannot tell, because no two outcomes differ.
    """

    difference: float
    low: float
    high: float
    wins: int  # images on which the first is higher
    losses: int  # images on which it is lower

    @property
    def side(self) -> int:
        """1 if the interval lies above zero, -1 if below, 0 if neither."""
        return int(self.low > 0) - int(self.high < 0)


def compare(
    first: np.ndarray, second: np.ndarray, *, skewed: bool = False, confidence: float = 0.95
) -> Paired:
    """Compare outcomes of two defences on the same images, (n,) each.

    The interval is `signed_rank_interval` of `skewed` outcomes, which have no bound (but of very
    many images); of shares in [0, 1], `discordant_interval` if every difference is -1, 0 or 1, and
    else Student's, which believes too much where fewer than six images differ and is not given.
    """
    differences = np.asarray(first, dtype=np.float64) - second
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    if skewed and len(differences) <= MANY:
        return Paired(*signed_rank_interval(differences, confidence), wins, losses)
    if np.isin(differences, (-1, 0, 1)).all():
        low, high = discordant_interval(wins, losses, len(differences), confidence)
    elif wins + losses < FEW:
        low, high = float("nan"), float("nan")
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
    low = scipy.stats.beta.ppf(tail, wins, losses + 1) if wins else 0.0
    high = scipy.stats.beta.ppf(1 - tail, wins + 1, losses) if losses else 1.0
    low, high = (float((2 * share - 1) * differing / count) for share in (low, high))
    return low, high


def student_interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of differences (n,); NaN of one alone."""
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    error = differences.std(ddof=1) / count**0.5
    half = scipy.stats.t.ppf(0.5 + confidence / 2, count - 1) * error
    return float(differences.mean() - half), float(differences.mean() + half)


def signed_rank_interval(
    differences: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Hodges and Lehmann's estimate from differences (n,), and the bounds of its interval.

    The estimate is the median of the means of all pairs (each with itself as well). The bounds are
    those of these means that Wilcoxon's signed-rank test rejects just not; NaN of so few images
    (five for 95 %) that it could never reject.
    """
    count = len(differences)
    first, second = np.triu_indices(count)
    means = np.sort((differences[first] + differences[second]) / 2)
    estimate = float(np.median(means))
    outside = signed_rank_quantile(count, (1 - confidence) / 2)
    if outside == 0:
        return estimate, float("nan"), float("nan")
    return estimate, float(means[outside - 1]), float(means[-outside])


def signed_rank_quantile(count: int, chance: float) -> int:
    """Least sum of ranks 1..count that is not exceeded with at least `chance`.

    Each rank is in the sum by the toss of a coin. Exact up to 50, beyond by the normal distribution
    of the same mean and variance.
    """
    if count > 50:
        mean, variance = count * (count + 1) / 4, count * (count + 1) * (2 * count + 1) / 24
        return int(np.ceil(scipy.stats.norm.ppf(chance, mean, variance**0.5)))
    ways = np.ones(1)  # in which the ranks so far give a sum
    for rank in range(1, count + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return int(np.searchsorted(np.cumsum(ways) / 2.0**count, chance))
