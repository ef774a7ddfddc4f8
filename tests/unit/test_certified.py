"""Certificates from counts, against closed forms; no image and no noise is needed."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from puriflow.metrics.certified import ABSTAIN, certified_hits, certify, lower_bound, predict


def counts(*values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("count", [1, 20, 200, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_bound_of_nothing_but_hits_and_of_none(count, alpha):
    assert lower_bound(count, count, alpha) == pytest.approx(alpha ** (1 / count), rel=1e-12)
    assert lower_bound(0, count, alpha) == 0
    # of one hit, the chance p at which 1 - (1 - p)^n is alpha
    assert lower_bound(1, count, alpha) == pytest.approx(1 - (1 - alpha) ** (1 / count), rel=1e-9)


def test_the_bound_is_the_exact_interval_of_scipy():
    for hits in (1, 7, 100, 150, 199, 200):
        interval = binomtest(hits, 200, alternative="greater").proportion_ci(0.999, "exact")
        assert lower_bound(hits, 200, 0.001) == pytest.approx(interval.low, rel=1e-6)


@pytest.mark.parametrize("chance", [0.3, 0.5, 0.77, 0.95, 0.999])
@pytest.mark.parametrize("alpha", [0.001, 0.1])
def test_the_bound_is_too_high_with_a_chance_of_alpha_at_most(chance, alpha):
    hits = np.arange(101)
    high = np.array([lower_bound(int(k), 100, alpha) > chance for k in hits])
    # exact: summed over all that 100 draws can give
    wrong = binom.pmf(hits, 100, chance)[high].sum()
    assert wrong <= alpha
    # and one hit fewer would already be accused wrongly more often: the bound is not slack
    first = int(np.argmax(high)) if high.any() else 101
    assert binom.sf(first - 2, 100, chance) > alpha


def test_a_certificate_in_closed_form():
    found = certify(counts(3, 17, 0), counts(0, 200, 0), sigma=0.25, alpha=0.001)
    assert (found.prediction, found.hits) == (1, 200)
    assert found.radius == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 200)), rel=1e-12)
    assert found.radius == pytest.approx(0.4565, abs=1e-4)


def test_the_first_draws_choose_and_only_the_others_bound():
    # The class that leads among the other draws is not the one that is certified.
    found = certify(counts(11, 9), counts(10, 190), sigma=0.5, alpha=0.001)
    assert found == (ABSTAIN, 0.0, 10)
    assert certify(counts(9, 11), counts(10, 190), sigma=0.5, alpha=0.001).prediction == 1


def test_it_abstains_up_to_a_bound_of_one_half():
    hits = next(k for k in range(200) if lower_bound(k, 200, 0.001) > 0.5)
    assert binom.sf(hits - 1, 200, 0.5) <= 0.001 < binom.sf(hits - 2, 200, 0.5)
    assert certify(counts(20, 0), counts(hits - 1, 201 - hits), 1.0, 0.001)[:2] == (ABSTAIN, 0.0)
    found = certify(counts(20, 0), counts(hits, 200 - hits), 1.0, 0.001)
    assert found.prediction == 0
    assert 0 < found.radius < 0.05


def test_the_radius_grows_with_hits_sigma_and_alpha():
    def radius(hits=180, sigma=0.25, alpha=0.001):
        return certify(counts(20, 0), counts(hits, 200 - hits), sigma, alpha).radius

    assert radius(170) < radius(180) < radius(200)
    assert radius(sigma=0.5) == pytest.approx(2 * radius())
    assert radius(alpha=0.01) > radius()


def test_prediction_needs_a_clear_lead_over_the_second():
    assert predict(counts(5, 90, 5), 0.001) == 1
    assert predict(counts(51, 49, 0), 0.001) == ABSTAIN
    # as few as these: a lead of n to nothing has a p-value of 2 / 2^n
    n = math.ceil(math.log2(2 / 0.001))
    assert predict(counts(0, 0, n), 0.001) == 2
    assert predict(counts(0, 0, n - 1), 0.001) == ABSTAIN
    # what is spread over many classes is not in the way
    assert predict(counts(40, *[1] * 60), 0.001) == 0


def test_certified_accuracy_falls_with_the_radius():
    predictions = counts(0, 1, 2, ABSTAIN, 3)
    radii = np.array([0.1, 0.3, 0.2, 0.0, 0.5])
    labels = counts(0, 1, 2, 3, 0)  # the last is certified, and wrong
    at = [0, 0.1, 0.15, 0.2, 0.3, 0.31, 1]
    assert certified_hits(predictions, radii, labels, at) == [3, 3, 2, 2, 1, 0, 0]
