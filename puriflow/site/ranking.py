"""Who is above whom within one protocol, as far as the images can tell, and at what cost."""

from collections.abc import Sequence

import numpy as np

from puriflow.metrics.paired import compare
from puriflow.plots.cost import pareto

BEHIND_RESULTS = False


def ranks(outcomes: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """The best and the worst rank of each row, by outcomes on the same images (n,) in [0, 1].

    A row is above another if the 95 % interval of their paired difference lies above zero. So the
    best rank counts those that are above it, and the worst those that are not below.
    """
    sides = np.zeros((len(outcomes), len(outcomes)), int)
    for i, first in enumerate(outcomes):
        for j, second in enumerate(outcomes[:i]):
            if not np.array_equal(first, second):
                sides[i, j] = compare(first, second).side
                sides[j, i] = -sides[i, j]
    best, worst = 1 + (sides < 0).sum(1), len(outcomes) - (sides > 0).sum(1)
    return [(int(low), int(high)) for low, high in zip(best, worst, strict=True)]


def front(costs: Sequence[float | None], robust: Sequence[float]) -> list[int]:
    """The places of rows that nothing beats that costs no more, of those whose cost is known."""
    known = [place for place, cost in enumerate(costs) if cost is not None]
    own = np.array([costs[place] for place in known], float)
    return [known[i] for i in pareto(own, np.array([robust[place] for place in known], float))]
