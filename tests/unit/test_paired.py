import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel, wilcoxon

from puriflow.metrics.paired import compare, discordant_interval, signed_rank_quantile

TEN = [(wins, 10 - wins) for wins in range(11)]


def outcomes(wins: int, losses: int, ties: int) -> tuple[np.ndarray, np.ndarray]:
    """Two defences' outcomes with as many wins and losses; the ties are half right, half wrong."""
    tied = np.arange(ties) % 2
    first = np.concatenate([np.ones(wins), np.zeros(losses), tied])
    return first, np.concatenate([np.zeros(wins), np.ones(losses), tied])


@pytest.mark.parametrize(("wins", "losses"), [*TEN, (6, 0), (5, 0), (40, 22), (40, 21), (300, 240)])
def test_the_verdict_is_that_of_the_exact_mcnemar_test(wins, losses):
    found = compare(*outcomes(wins, losses, 7))
    assert (found.wins, found.losses) == (wins, losses)
    assert found.difference == pytest.approx((wins - losses) / (wins + losses + 7))
    test = binomtest(wins, wins + losses)
    assert abs(found.side) == int(test.pvalue < 0.05)
    share = test.proportion_ci(0.95, method="exact")
    scale = (wins + losses) / (wins + losses + 7)
    assert (found.low, found.high) == pytest.approx(
        ((2 * share.low - 1) * scale, (2 * share.high - 1) * scale)
    )


def test_six_to_nothing_is_enough_and_five_is_not():
    assert compare(*outcomes(6, 0, 14)).side == 1
    assert compare(*outcomes(0, 6, 14)).side == -1
    assert compare(*outcomes(5, 0, 15)).side == 0


def test_exchanging_the_two_turns_the_interval_round():
    first, second = outcomes(9, 2, 3)
    one, other = compare(first, second), compare(second, first)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_without_a_difference_nothing_can_be_said():
    found = compare(*outcomes(0, 0, 20))
    assert found.side == 0
    assert np.isnan([found.low, found.high]).all()
    assert compare(np.array([0.3]), np.array([0.1])).side == 0


def test_other_outcomes_take_student_s_interval():
    first, second = np.random.default_rng(0).random((2, 12))
    found = compare(first, second)
    test = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))
    assert found.difference == pytest.approx((first - second).mean())


@pytest.mark.parametrize(("more", "side"), [(2, 0), (5, 0), (6, 1), (20, 1)])
def test_means_over_draws_need_six_images_that_differ(more, side):
    """As answers do: of five, no exact test could reject, but Student's would."""
    first = np.where(np.arange(20) < more, np.linspace(0.1, 0.4, 20).round(1), 0)
    found = compare(first + 0.5, np.full(20, 0.5))
    assert (found.side, found.wins, found.losses) == (side, more, 0)
    assert compare(np.full(more, 0.1), np.zeros(more)).side == side


def test_pairing_tells_what_two_intervals_do_not():
    """Images of very different difficulty, each a little better: only pairs show it."""
    hard = np.linspace(0, 40, 20)
    assert compare(hard + 0.5 + 0.01 * np.sin(hard), hard).side == 1


def test_the_interval_covers():
    """Of a difference of 0.1 in shares, given who differs, 95 % of intervals or more."""
    rng, truth, seen = np.random.default_rng(1), 0.2, []
    for wins in rng.binomial(15, (1 + truth) / 2, size=2000):
        low, high = discordant_interval(int(wins), 15 - int(wins), 30)
        seen.append(low <= truth * 15 / 30 <= high)
    assert np.mean(seen) >= 0.95


@pytest.mark.parametrize("count", [6, 8, 20, 40])
def test_skewed_outcomes_take_the_signed_rank_test(count):
    """The interval lies on one side of a shift exactly where the test rejects that shift."""
    differences = np.random.default_rng(count).standard_exponential(count) ** 3
    found = compare(differences, np.zeros(count), skewed=True)
    inside, outside = 1e-9, -1e-9
    for bound, sign in ((found.low, 1), (found.high, -1)):
        for way, rejected in ((inside, False), (outside, True)):
            shifted = differences - (bound + sign * way)
            assert (wilcoxon(shifted, method="exact").pvalue < 0.05) == rejected
    assert found.low < found.difference < found.high


def test_one_image_does_not_drown_the_others():
    differences = np.array([1.0] * 19 + [60])
    found = compare(differences, np.zeros(20), skewed=True)
    assert (found.difference, found.side, found.wins) == (1, 1, 20)
    assert compare(differences, np.zeros(20)).side == 0


def test_five_images_cannot_decide():
    assert compare(np.arange(1.0, 6), np.zeros(5), skewed=True).side == 0
    assert compare(np.arange(1.0, 7), np.zeros(6), skewed=True).side == 1


def test_the_normal_quantile_continues_the_exact_one():
    exact = np.array([signed_rank_quantile(n, 0.025) for n in (49, 50)])
    beyond = signed_rank_quantile(51, 0.025)
    assert abs(beyond - (2 * exact[1] - exact[0])) <= 2
