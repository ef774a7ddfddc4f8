"""The ceiling of a table: what adversarial training alone keeps under the table's threat.

A purifier in front of an undefended classifier is worth its cost where it keeps more than the best
adversarially trained classifier (Rebuffi et al. and others; RobustBench has them) keeps without it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from puriflow.metrics.paired import compare
from puriflow.results.columns import bounded

TRAINED = "AT"  # the type of the rows that may be it
COLUMNS = ("ceiling", "to_ceiling", "to_ceiling_low", "to_ceiling_high")


def to_ceiling(robust: np.ndarray, trained: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The cells of how far a purifier's robust accuracy lies above the ceiling, in points.

    Args:
        robust: how right the purifier's row is about each attacked image, (n,) in [0, 1].
        trained: the same of each adversarially trained classifier, by its method, on these images.
    """
    if not trained:
        return {}
    best = max(trained, key=lambda method: trained[method].mean())
    difference = compare(robust, trained[best])
    numbers = (difference.difference, *difference.interval)
    return {"ceiling": best} | bounded("to_ceiling", (round(100 * x, 2) for x in numbers))
