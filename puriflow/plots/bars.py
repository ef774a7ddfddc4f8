"""A table's bars beside the paper's values."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from puriflow.plots.style import AIDE, PAPER, ROBUST, STANDARD, save, styled
from puriflow.results.csvs import TABLE, read_csv


def plot_table(csv: Path, title: str, out: Path) -> None:
    """Draw a table's standard and robust accuracy with intervals, and the paper's values.

    Args:
        csv: a table of this project.
        title: above the picture.
        out: .png or .svg.

    Raises:
        UserError: the CSV is missing, or is no table's.
    """
    with styled(text=10):
        save(draw(read_csv(csv, TABLE), title), [out])


def draw(rows: pd.DataFrame, title: str) -> plt.Figure:
    """Two bars for each row of a table, from above."""
    drawn, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(rows)))
    places = np.arange(len(rows))[::-1]
    _bars(axes, rows, "standard", places + 0.2, STANDARD)
    papers = _bars(axes, rows, "robust", places - 0.2, ROBUST)
    papers.set_label("paper")
    axes.set_yticks(places, rows["method"])
    axes.set_xlim(0, 100)
    counts = " or ".join(f"{n:.0f}" for n in rows["n"].dropna().unique())
    count = f", n = {counts}, 95 % Wilson intervals" if counts else ""
    axes.set_xlabel(f"accuracy (%){count}")
    axes.set_title(title, wrap=True)
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn


def _bars(axes: Axes, rows: pd.DataFrame, column: str, places: np.ndarray, colour: str) -> Line2D:
    """One accuracy of every row with its interval, and the paper's, which are returned."""
    values = rows[column]
    bounds = [values - rows[f"{column}_low"], rows[f"{column}_high"] - values]
    axes.barh(places, values, 0.38, color=colour, label=f"{column}, ours")
    style = {"fmt": "none", "ecolor": AIDE, "elinewidth": 1, "capsize": 2}
    axes.errorbar(values, places, xerr=bounds, **style)
    marks = {"marker": "D", "linestyle": "", "color": PAPER, "markerfacecolor": "white"}
    return axes.plot(rows[f"paper_{column}"], places, clip_on=False, zorder=3, **marks)[0]
