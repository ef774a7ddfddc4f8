"""Is one defence better than another on the same images? Tests of paired differences.

Two defences that see the same images are compared image by image, which takes the images' own
difficulty out of the comparison. Each kind of outcome has one family of tests, of "the difference
is d" for every d, and what is said follows from it: the interval is what is not rejected, the
p-value is the test of 0, and a difference is within a margin if both ends of the margin are
rejected. So an interval lies on one side of zero exactly where p is below 0.05.

- `Shares`: right or wrong answers, and means over draws of which few differ. Exact in the number of
  images that differ, too: where none does, there is an interval.
- `Student`: means over draws.
- `SignedRank`: cross-entropies, errors, distances and times have no bound and long tails, of which
  one image can drown nineteen.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from functools import cached_property, lru_cache

import numpy as np
import scipy  # whose packages are imported when they are used: planning needs none

from puriflow.errors import UserError

ALPHA = 0.05  # chance of a wrong verdict
MANY = 2000  # images, whose mean has Student's interval even with long tails
FEW = 6  # differing images below which no exact test of a mean rejects at 95 %
MOST = 10**7  # images, of which more are never asked for
BLOCK, POINTS = 256, 2**22  # of an integral's points: at once, and at most


class PairedTests(ABC):
    """Tests of what the mean (or typical) difference is, one for each value it may have.

    Attributes:
        count: of images.
        estimate: of the difference.
    """

    count: int
    estimate: float

    @abstractmethod
    def tails(self, at: float, times: float = 1) -> tuple[float, float]:
        """The chances of a difference as high as ours, and as low, if the true one were `at`.

        Args:
            at: the true difference.
            times: as many images as there are, on which the defences differ as on these.
        """

    @abstractmethod
    def interval(self) -> tuple[float, float]:
        """The least and the greatest difference that is not rejected at 5 %."""

    def p(self, times: float = 1) -> float:
        """Two-sided p-value of there being no difference."""
        return min(1.0, 2 * min(self.tails(0, times)))

    def p_within(self, margin: float, times: float = 1) -> float:
        """P-value of a difference of the margin or more: below 0.05 if the 95 % interval is inside.

        It is twice that of the two one-sided tests (Schuirmann 1987), whose interval is of 90 %.
        """
        return min(1.0, 2 * max(self.tails(-margin, times)[0], self.tails(margin, times)[1]))

    def images_needed(self, margin: float) -> int | None:
        """Least number of images like these that would decide; None if none below `MOST` does.

        Of so many that differ as these do, the interval lies on one side of zero or within the
        margin. The estimate is taken for the truth: a plan that is right four times of five takes
        about twice as many.
        """

        def decide(images: int) -> bool:
            times = images / self.count
            return min(self.p(times), self.p_within(margin, times)) < ALPHA

        asked = range(self.count, MOST)
        place = bisect_left(asked, True, key=decide)
        return asked[place] if place < len(asked) else None


class Paired:
    """The mean of the first of two outcomes less the second, over images, with its tests.

    Attributes:
        difference: the mean; of skewed outcomes Hodges and Lehmann's estimate of what is typical.
        wins: images on which the first is higher.
        losses: images on which it is lower.
        tests: of the difference.
    """

    def __init__(self, differences: np.ndarray, tests: PairedTests):
        self.difference, self.tests = tests.estimate, tests
        self.wins, self.losses = int((differences > 0).sum()), int((differences < 0).sum())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper bound of 95 %; NaN of so few that no test could reject."""
        return self.tests.interval()

    @property
    def side(self) -> int:
        """1 if the interval lies above zero, -1 if below, 0 if neither."""
        if self.tests.p() >= ALPHA:
            return 0
        high, low = self.tests.tails(0)
        return 1 if high < low else -1

    def within(self, margin: float) -> bool:
        """Whether the interval lies within a margin around zero."""
        return self.tests.p_within(margin) < ALPHA


def compare(first: np.ndarray, second: np.ndarray, *, reach: int | None = 1) -> Paired:
    """Compare outcomes of two defences on the same images, (n,) each.

    Args:
        first: outcomes of one.
        second: outcomes of the other.
        reach: how far apart two outcomes may lie, which is 1 of shares; None of skewed outcomes,
            which have no bound.

    Raises:
        UserError: an outcome is NaN or infinite, of which no verdict follows.
    """
    differences = np.asarray(first, dtype=np.float64) - second
    if not np.isfinite(differences).all():
        raise UserError("outcomes that are compared have NaN or infinity")
    if reach is not None:
        differences = differences.round(9)  # of shares of draws, which have rounding
    if reach is None:
        tests = (SignedRank if len(differences) <= MANY else Student)(differences)
    elif (differences == differences.round()).all() or np.count_nonzero(differences) < FEW:
        tests = Shares(differences, reach)
    else:
        tests = Student(differences, reach)
    return Paired(differences, tests)


class Shares(PairedTests):
    """Of differences between bounded outcomes (n,), without any other assumption.

    Of differences in [-r, r], the mean has for its lower bound a quantile of the weighted mean of
    the differences and of one more, -r, under random weights that are uniform on the simplex
    (Gaffke 2005; Learned-Miller and Thomas 2019, of whose bound no exception is known). Of answers
    that are right or wrong, it rejects no difference exactly where McNemar's exact test does: of b
    wins and c losses, the weights' sum of the wins is below that of the losses and the one more
    with the chance that of b + c tosses b or more are heads. If only wins or only losses
    occur, its outer bound is Clopper and Pearson's: 1 - 0.025^(1/n) where no image differs.
    """

    def __init__(self, differences: np.ndarray, reach: int = 1):
        self.values, self.weights = np.unique(differences, return_counts=True)
        self.count, self.estimate, self.reach = len(differences), float(differences.mean()), reach

    def tails(self, at: float, times: float = 1) -> tuple[float, float]:
        """See `PairedTests`."""
        return self._tail(self.values, at, times), self._tail(-self.values, -at, times)

    def _tail(self, values: np.ndarray, at: float, times: float = 1) -> float:
        steps = np.append(values, -self.reach) - at
        return chance_below_zero(steps, np.append(self.weights * times, 1))

    def interval(self) -> tuple[float, float]:
        """See `PairedTests`."""

        def lower(values: np.ndarray) -> float:
            if values.max() == -self.reach:
                return float(-self.reach)
            ends = -self.reach, values.max()
            return float(
                scipy.optimize.root_scalar(
                    lambda at: self._tail(values, at) - ALPHA / 2, bracket=ends
                ).root
            )

        return lower(self.values), -lower(-self.values)


def chance_below_zero(steps: np.ndarray, weights: np.ndarray) -> float:
    """Of a sum of steps (k,) by independent Gamma(weight) variables, that it is at most zero.

    So it is of a mean of steps with Dirichlet weights. The sum has the cumulants' function K(z) =
    -sum w log(1 - a z), and its chance is the integral of -exp(K(z)) / (2 pi i z) along any line
    Re z = c < 0 on which no 1 - a z is negative. It is taken where it is least at the real axis
    (the saddle point), by the trapezoidal rule: what this errs by falls exponentially with its
    spacing over the distance to the nearest pole.
    """
    if (steps >= 0).all() or (steps <= 0).all():
        return float((steps <= 0).all())
    if (weights * steps).sum() < 0:
        return 1 - chance_below_zero(-steps, weights)
    pole = 1 / steps.min()
    ends = pole * (1 - 1e-12), pole * 1e-12
    c = scipy.optimize.root_scalar(
        lambda c: (weights * steps / (1 - steps * c)).sum() - 1 / c, bracket=ends
    ).root
    if -(weights * np.log1p(-steps * c)).sum() < -50:  # Chernoff's bound: below 1e-21
        return 0.0
    spacing = min(-c, c - pole) / 4
    total, start = 0.0, 0
    while start < POINTS:
        z = c + 1j * spacing * np.arange(start, start + BLOCK)
        height = np.exp(-(weights * np.log(1 - steps * z[:, None])).sum(1)) / z
        total += height.real.sum() - (height[0].real / 2 if start == 0 else 0)
        if abs(height[-1]) <= 1e-12 * abs(total):
            break
        start += BLOCK
    return float(np.clip(-total * spacing / np.pi, 0, 1))


class Student(PairedTests):
    """Of the mean of many differences (n,): of means over draws, or of very many skewed outcomes.

    No chance is below 2^-n, which is the least that signs of n differences have: where all are the
    same, their spread says nothing, and any number of hypotheses would stand beside each other.
    Shares that lie at most `reach` apart are within a margin only if there are enough images to
    show a share of them that alone would make up the margin: it sees no image that is not there.
    """

    def __init__(self, differences: np.ndarray, reach: int | None = None):
        self.count, self.estimate, self.reach = len(differences), float(differences.mean()), reach
        self.differences = differences
        self.error = float(differences.std(ddof=1)) / self.count**0.5

    def tails(self, at: float, times: float = 1) -> tuple[float, float]:
        """See `PairedTests`."""
        distance = (self.estimate - at) * times**0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.nan_to_num(np.float64(distance) / self.error, posinf=np.inf, neginf=-np.inf)
        degrees = self.count * times - 1
        chances, least = scipy.stats.t(degrees), 0.5 ** (self.count * times)
        return max(float(chances.sf(score)), least), max(float(chances.cdf(score)), least)

    def interval(self) -> tuple[float, float]:
        """See `PairedTests`."""
        return student_interval(self.differences, 1 - ALPHA)

    def p_within(self, margin: float, times: float = 1) -> float:
        """See `PairedTests`."""
        p = super().p_within(margin, times)
        if self.reach is None:
            return p
        unseen = max(0.0, 1 - margin / self.reach) ** (self.count * times)
        return min(1.0, max(p, 2 * unseen))


def student_interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean of differences (n,); NaN of one alone."""
    count = len(differences)
    if count < 2:
        return float("nan"), float("nan")
    error = differences.std(ddof=1) / count**0.5
    half = scipy.stats.t.ppf(0.5 + confidence / 2, count - 1) * error
    return float(differences.mean() - half), float(differences.mean() + half)


class SignedRank(PairedTests):
    """Wilcoxon's signed-rank test of differences (n,), and Hodges and Lehmann's estimate.

    The estimate is the median of the means of all pairs (each with itself as well). A difference
    is rejected if too few of these means lie on one side of it; one that is equal counts for both.
    """

    def __init__(self, differences: np.ndarray):
        self.count = len(differences)
        first, second = np.triu_indices(self.count)
        self.means = np.sort((differences[first] + differences[second]) / 2)
        self.estimate = float(np.median(self.means))

    def tails(self, at: float, times: float = 1) -> tuple[float, float]:
        """See `PairedTests`; by more images, one is rejected that lies as much nearer."""
        at = self.estimate + (at - self.estimate) * times**0.5
        below = np.searchsorted(self.means, at, side="right")
        above = len(self.means) - np.searchsorted(self.means, at, side="left")
        chances = signed_rank_chances(self.count)
        return float(chances[below]), float(chances[above])

    def interval(self) -> tuple[float, float]:
        """See `PairedTests`; NaN of so few images (five for 95 %) that it could never reject."""
        outside = np.searchsorted(signed_rank_chances(self.count), ALPHA / 2)
        if outside == 0:
            return float("nan"), float("nan")
        return float(self.means[outside - 1]), float(self.means[-outside])


@lru_cache(maxsize=8)
def signed_rank_chances(count: int) -> np.ndarray:
    """The chances that a sum of ranks 1..count, each in it by a toss, is at most 0, 1, 2, ...

    Exact up to 50, beyond by the normal distribution of the same mean and variance.
    """
    if count > 50:
        mean, variance = count * (count + 1) / 4, count * (count + 1) * (2 * count + 1) / 24
        return scipy.stats.norm.cdf(np.arange(count * (count + 1) // 2 + 1), mean, variance**0.5)
    ways = np.ones(1)  # in which the ranks so far give a sum
    for rank in range(1, count + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return np.cumsum(ways) / 2.0**count


def holm(p: np.ndarray, most: int | None = None) -> np.ndarray:
    """P-values (n,) corrected for their number (Holm 1979): all those below 0.05 stand together.

    `most` of the hypotheses can be true at once, if they exclude each other (Shaffer 1986).
    """
    order = np.argsort(p)
    corrected = np.empty(len(p))
    factors = np.minimum(np.arange(len(p), 0, -1), most or len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected
