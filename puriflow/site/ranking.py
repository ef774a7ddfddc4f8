"""Who is above whom within one protocol, as far as the images can tell, and at what cost."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from puriflow.metrics.paired import ALPHA, compare, holm
from puriflow.plots.cost import pareto

BEHIND_RESULTS = False


def ranks(outcomes: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """The best and the worst rank of each row, by outcomes on the same images (n,) in [0, 1].

    A row is above another if their paired difference is beyond chance (5 %), by Holm's correction
    for the number of all pairs. So the best rank counts those that are above it, and the worst
    those that are not below.
    """
    sides = np.zeros((len(outcomes), len(outcomes)), int)
    pairs = list(combinations(range(len(outcomes)), 2))
    compared = [compare(outcomes[i], outcomes[j]) for i, j in pairs]
    corrected = holm(np.array([pair.tests.p() for pair in compared]))
    for (i, j), pair, p in zip(pairs, compared, corrected, strict=True):
        if p < ALPHA:
            sides[i, j], sides[j, i] = pair.side, -pair.side
    best, worst = 1 + (sides < 0).sum(1), len(outcomes) - (sides > 0).sum(1)
    return [(int(low), int(high)) for low, high in zip(best, worst, strict=True)]


def front(costs: Sequence[float | None], robust: Sequence[float]) -> list[int]:
    """The places of rows that nothing beats that costs no more, of those whose cost is known."""
    known = [place for place, cost in enumerate(costs) if cost is not None]
    own = np.array([costs[place] for place in known], float)
    return [known[i] for i in pareto(own, np.array([robust[place] for place in known], float))]
