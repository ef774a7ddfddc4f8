"""What a figure's kind gives: the rows of its CSV, the values of each image, and the drawing."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt

# Of results/measures/FIGURE.csv, in which every value of an image is a row. `layer` is empty where
# a value has none, `index` is the image's in its data set; what a `note` says has no value.
COLUMNS = ("line", "layer", "index", "metric", "value", "note")


class Built(NamedTuple):
    """What `build` of a kind returns.

    Attributes:
        rows: of the CSV, by column.
        values: of each image, by `COLUMNS`; see `values_of`.
        drawn: the drawing.
    """

    rows: list[dict[str, Any]]
    values: list[dict[str, Any]]
    drawn: plt.Figure


def values_of(
    line: str, metric: str, indices: Iterable[int], found: np.ndarray, layer: str | None = None
) -> Iterator[dict[str, Any]]:
    """The values (n,) of a metric, for the images of n indices, as rows."""
    for index, value in zip(indices, found, strict=True):
        named = {"line": line, "layer": layer, "index": int(index), "metric": metric}
        yield named | {"value": float(value)}
