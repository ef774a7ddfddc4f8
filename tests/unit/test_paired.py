import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, multinomial, norm, ttest_rel, wilcoxon

from puriflow.errors import UserError
from puriflow.metrics.paired import (
    chance_below_zero,
    compare,
    holm,
    signed_rank_chances,
    student_interval,
)

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
    assert found.tests.p() == pytest.approx(test.pvalue, abs=1e-7)
    low, high = found.interval
    assert (found.side, int(low > 0) - int(high < 0)) == (
        np.sign(wins - losses) * (test.pvalue < 0.05),
    ) * 2


def test_six_to_nothing_is_enough_and_five_is_not():
    assert compare(*outcomes(6, 0, 14)).side == 1
    assert compare(*outcomes(0, 6, 14)).side == -1
    assert compare(*outcomes(5, 0, 15)).side == 0


def test_exchanging_the_two_turns_the_interval_round():
    first, second = outcomes(9, 2, 3)
    one, other = compare(first, second), compare(second, first)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


@pytest.mark.parametrize(("wins", "count"), [(0, 20), (0, 122), (3, 20), (20, 20)])
def test_where_all_differ_one_way_or_none_the_outer_bound_is_clopper_and_pearson_s(wins, count):
    high = beta.ppf(0.975, wins + 1, count - wins) if wins < count else 1
    found = compare(*outcomes(wins, 0, count - wins))
    assert found.interval[1] == pytest.approx(high)
    assert found.within(0.03) == (found.interval[1] < 0.03 and not wins)


@pytest.mark.parametrize("count", [5, 12])
def test_the_interval_covers_whatever_the_chances_of_wins_and_losses(count):
    """Of all tables of as many images, those whose interval has the truth have a chance of 95 %."""
    tables = [(b, c) for b in range(count + 1) for c in range(count + 1 - b)]
    low, high = np.transpose([compare(*outcomes(b, c, count - b - c)).interval for b, c in tables])
    counts = [(b, c, count - b - c) for b, c in tables]
    for win in np.linspace(0, 1, 21):
        for lose in np.linspace(0, 1 - win, 11):
            chances = [win, lose, max(0, 1 - win - lose)]
            inside = (low - 1e-9 <= win - lose) & (win - lose <= high + 1e-9)
            assert multinomial.pmf(counts, count, chances)[inside].sum() > 0.95 - 1e-9


def test_of_means_over_draws_few_that_differ_have_an_interval_that_covers():
    """Of ten draws, where an image in fifty is lost by the one and won by the other."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(300):
        first = np.where(rng.random(60) < 0.02, rng.binomial(10, 0.9, 60) / 10, 0)
        missed += min(compare(first, np.zeros(60)).tests.tails(0.02 * 0.9)) < 0.025
    assert missed <= 15


def test_means_over_draws_are_alike_only_if_images_enough_were_asked():
    """All have nearly the same, but an image in 33 of which none was seen would be 3 points."""
    jitter = np.tile([0.1, -0.1], 61)
    found = compare(0.5 + jitter, np.full(122, 0.5))
    assert found.within(0.03)
    fewer = compare(0.5 + jitter[:60] / 2, np.full(60, 0.5))
    assert max(map(abs, fewer.interval)) < 0.03
    assert not fewer.within(0.03)
    assert fewer.tests.images_needed(0.03) == 122


def test_a_difference_is_within_a_margin_where_the_interval_is():
    rng = np.random.default_rng(5)
    for differences, reach in ((rng.random(200) - 0.5, 1), (rng.standard_normal(30) ** 3, None)):
        found = compare(differences, np.zeros(len(differences)), reach=reach)
        bound = max(map(abs, found.interval))
        assert found.within(bound + 1e-6)
        assert not found.within(bound - 1e-6)
        assert not found.within(0)


def test_as_many_images_as_are_needed_decide():
    first, second = outcomes(3, 1, 16)
    needed = compare(first, second).tests.images_needed(0)
    times = -(-needed // 20)
    assert compare(np.tile(first, times), np.tile(second, times)).side == 1
    fewer = (needed - 1) // 20
    assert compare(np.tile(first, fewer), np.tile(second, fewer)).side == 0
    assert compare(np.zeros(9), np.zeros(9)).tests.images_needed(0) is None


def test_holm_s_correction():
    corrected = holm(np.array([0.01, 0.04, 0.03, 0.005, 0.9]))
    np.testing.assert_allclose(corrected, [0.04, 0.09, 0.09, 0.025, 0.9])


def test_other_outcomes_take_student_s_interval():
    first, second = np.random.default_rng(0).random((2, 12))
    found = compare(first, second)
    test = ttest_rel(first, second).confidence_interval(0.95)
    assert found.interval == pytest.approx((test.low, test.high))
    assert found.tests.p() == pytest.approx(ttest_rel(first, second).pvalue)
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


@pytest.mark.parametrize("count", [6, 8, 20, 40])
def test_skewed_outcomes_take_the_signed_rank_test(count):
    """The interval lies on one side of a shift exactly where the test rejects that shift."""
    differences = np.random.default_rng(count).standard_exponential(count) ** 3
    found = compare(differences, np.zeros(count), reach=None)
    inside, outside = 1e-9, -1e-9
    low, high = found.interval
    for bound, sign in ((low, 1), (high, -1)):
        for way, rejected in ((inside, False), (outside, True)):
            shifted = differences - (bound + sign * way)
            assert (wilcoxon(shifted, method="exact").pvalue < 0.05) == rejected
    assert low < found.difference < high
    assert found.tests.p() == pytest.approx(wilcoxon(differences, method="exact").pvalue)


def test_one_image_does_not_drown_the_others():
    differences = np.array([1.0] * 19 + [60])
    found = compare(differences, np.zeros(20), reach=None)
    assert (found.difference, found.side, found.wins) == (1, 1, 20)
    assert student_interval(differences)[0] < 0


def test_five_images_cannot_decide():
    assert compare(np.arange(1.0, 6), np.zeros(5), reach=None).side == 0
    assert compare(np.arange(1.0, 7), np.zeros(6), reach=None).side == 1


def test_the_normal_quantile_continues_the_exact_one():
    exact = np.array([np.searchsorted(signed_rank_chances(n), 0.025) for n in (49, 50)])
    beyond = np.searchsorted(signed_rank_chances(51), 0.025)
    assert abs(beyond - (2 * exact[1] - exact[0])) <= 2


def test_of_many_comparisons_without_a_difference_rarely_one_seems_to_have_one():
    """Each is within a margin of six standard errors beyond doubt, which is no other's evidence."""
    rng, runs, wrong = np.random.default_rng(0), 500, 0
    for score in np.abs(rng.standard_normal((runs, 50))):
        p = 2 * norm.sf(score)
        p_within = 2 * norm.sf(6 - score)
        corrected = holm(np.concatenate([p, p_within]), most=50)
        wrong += (corrected[:50] < 0.05).any()
    assert wrong / runs < 0.08


@pytest.mark.parametrize("n", [20, 1000, 10**5])
@pytest.mark.parametrize("expected", [0.5, 3.7, 8])
def test_the_chance_that_an_image_of_a_share_is_not_among_many(n, expected):
    share = expected / n
    chance = chance_below_zero(np.array([share, share - 1]), np.array([n, 1.0]))
    assert chance == pytest.approx((1 - share) ** n, rel=1e-7)


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (7, 0), (60, 30), (5000, 4800)])
def test_the_chance_of_wins_and_losses_is_that_of_mcnemar(wins, losses):
    chance = chance_below_zero(np.array([1.0, -1.0]), np.array([wins, losses + 1.0]))
    assert chance == pytest.approx(binom.sf(wins - 1, wins + losses, 0.5), rel=1e-6)


def test_rounding_is_no_difference():
    """Seven images of 9 and 6 of ten draws, and 5 and 2: 0.3 and 0.3."""
    first, second = np.full(20, 0.5), np.full(20, 0.5)
    first[:7], second[:7] = 0.9 - 0.6, 0.5 - 0.2
    assert (first[:7] != second[:7]).all()
    paired = compare(first, second)
    assert (paired.wins, paired.losses, paired.side) == (0, 0, 0)


def test_differences_that_are_all_the_same_say_no_more_than_their_signs():
    same = compare(np.full(6, 0.9), np.full(6, 0.8))
    assert same.side == 1
    assert same.tests.p() == 2 * 0.5**6  # as the sign test's, and not 1e-80, which Holm would take
    assert compare(np.full(10, 0.9), np.full(10, 0.8)).tests.p() == 2 * 0.5**10


@pytest.mark.parametrize("reach", [1, None])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_of_nan_no_verdict_follows(reach, bad):
    with pytest.raises(UserError, match="outcomes that are compared have NaN or infinity"):
        compare(np.array([1, 0, bad, 1, 0, 1]), np.zeros(6), reach=reach)
