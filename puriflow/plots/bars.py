"""A table's bars beside the paper's values."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from puriflow.plots.style import AIDE, PAPER, ROBUST, STANDARD, labelled


def draw(frame: pd.DataFrame, title: str) -> plt.Figure:
    """Two bars for each row, from above: standard and robust accuracy, and the paper's values.

    Args:
        frame: a row each: method, n, and standard and robust with their bounds and `paper_...`, in
            percent; NaN where there is no value; and whether an attack failed (`attack_failed`).
        title: above the picture.
    """
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(frame)))
    places = np.arange(len(frame))[::-1]
    _bars(axes, frame, "standard", places + 0.2, STANDARD)
    papers = _bars(axes, frame, "robust", places - 0.2, ROBUST)
    papers.set_label("paper")
    axes.set_yticks(places, labelled(frame, "method"))
    axes.set_xlim(0, 100)
    counts = " or ".join(f"{n:.0f}" for n in frame["n"].dropna().unique())
    count = f", n = {counts}, 95 % Wilson intervals" if counts else ""
    axes.set_xlabel(f"accuracy (%){count}")
    axes.set_title(title, wrap=True)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _bars(axes: Axes, frame: pd.DataFrame, column: str, places: np.ndarray, colour: str) -> Line2D:
    """One accuracy of every row with its interval, and the paper's, which are returned."""
    values = frame[column]
    bounds = [values - frame[f"{column}_low"], frame[f"{column}_high"] - values]
    axes.barh(places, values, 0.38, color=colour, label=f"{column}, ours")
    style = {"fmt": "none", "ecolor": AIDE, "elinewidth": 1, "capsize": 2}
    axes.errorbar(values, places, xerr=bounds, **style)
    marks = {"marker": "D", "linestyle": "", "color": PAPER, "markerfacecolor": "white"}
    return axes.plot(frame[f"paper_{column}"], places, clip_on=False, zorder=3, **marks)[0]
