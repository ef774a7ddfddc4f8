"""Content distance against computations by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from puriflow.errors import UserError
from puriflow.metrics.content import DEFINITIONS, content_distance, ratio_of_means

# Two channels of 1 x 3 positions. They differ by 1, 0, -2 and 3, 0, 0: the squares sum to 14.
FOUND = torch.tensor([[[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]])
TRUTH = torch.tensor([[[[0.0, 2.0, 5.0]], [[1.0, 5.0, 6.0]]]])


@pytest.mark.parametrize(
    ("definition", "expected"), [("eq7", 14 / 3), ("johnson", 14 / 6), ("gatys", 7)]
)
def test_by_hand(definition, expected):
    assert content_distance(FOUND, TRUTH, definition).tolist() == pytest.approx([expected])


def test_each_image_has_its_own():
    found = content_distance(torch.cat([FOUND, TRUTH]), torch.cat([TRUTH, TRUTH]))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([14 / 3, 0])


def test_normalised_the_definitions_are_one():
    random = torch.Generator().manual_seed(0)
    a, b, truth = torch.rand(3, 4, 5, 6, 7, generator=random)
    ratios = [content_distance(a, truth, d) / content_distance(b, truth, d) for d in DEFINITIONS]
    for ratio in ratios[1:]:
        torch.testing.assert_close(ratio, ratios[0])


def test_mistakes():
    with pytest.raises(UserError, match="did you mean 'gatys'"):
        content_distance(FOUND, TRUTH, "gaty")
    with pytest.raises(ValueError, match=r"\(1, 2, 1, 3\) and \(1, 1, 1, 3\)"):
        content_distance(FOUND, TRUTH[:, :1])


def test_the_ratio_s_interval_is_that_of_a_paired_bootstrap():
    random = np.random.default_rng(1)
    references = random.gamma(2, size=20)
    values = references * random.uniform(0.2, 0.8, size=20)

    def ratio(a, b, axis):
        return a.mean(axis=axis) / b.mean(axis=axis)

    expected = bootstrap(
        (values, references), ratio, paired=True, method="percentile", rng=2, n_resamples=9999
    ).confidence_interval
    found, low, high = ratio_of_means(values, references)
    assert found == pytest.approx(values.sum() / references.sum())
    assert (low, high) == pytest.approx(expected, rel=0.02)
    assert ratio_of_means(3 * references, references) == pytest.approx((3, 3, 3))
