"""A table's bars beside the paper's values."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from puriflow.plots.colours import AIDE, PAPER, ROBUST, STANDARD
from puriflow.plots.style import labelled, titled

LETTERS = 32  # of a line of a row's name
LINE = 0.19  # inches of one


def draw(frame: pd.DataFrame, title: str) -> plt.Figure:
    """Two bars for each row, from above: standard and robust accuracy, and the paper's values.

    The numbers stand at the right, where neither a bar nor an interval is. A bar of 0 is a stub.

    Args:
        frame: a row each: method, n, and standard and robust with their bounds and `paper_...`, in
            percent; NaN where there is no value; and whether an attack failed (`attack_failed`).
        title: above the picture.
    """
    names = [_wrapped(name) for name in labelled(frame, "method")]
    room = max([0.5, *(LINE * (1 + name.count("\n")) for name in names)])
    figure, axes = plt.subplots(figsize=(7, 1.2 + room * len(frame)))
    places = np.arange(len(frame))[::-1]
    # where colours are grey, the two are told by their places
    _bars(axes, frame, "standard", places + 0.2, STANDARD, "standard, ours (upper)")
    papers = _bars(axes, frame, "robust", places - 0.2, ROBUST, "robust, ours (lower)")
    if frame[["paper_standard", "paper_robust"]].notna().any(axis=None):
        papers.set_label("paper")
    for place in places[frame["standard"].isna().to_numpy()]:
        axes.text(1, place, "not run here", color=AIDE, va="center", fontsize="small")
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(-0.6, len(frame) - 0.4)
    axes.set_xlim(0, 100)
    counts = " or ".join(f"{n:.0f}" for n in frame["n"].dropna().unique())
    count = f", n = {counts}, 95 % Wilson intervals" if counts else ""
    axes.set_xlabel(f"accuracy (%){count}")
    titled(figure, title)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] == "paper")
    legend = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(*legend, loc="outside lower center", ncols=3)
    return figure


def _wrapped(name: str) -> str:
    """A row's name in lines of few letters."""
    return "\n".join(fill(line, LETTERS, break_on_hyphens=False) for line in name.splitlines())


def _bars(
    axes: Axes, frame: pd.DataFrame, column: str, places: np.ndarray, colour: str, label: str
) -> Line2D:
    """One accuracy of every row with its interval, and the paper's, which are returned."""
    values = frame[column]
    bounds = [values - frame[f"{column}_low"], frame[f"{column}_high"] - values]
    bars = axes.barh(places, values, 0.38, color=colour, label=label)
    for bar, place, value in zip(bars, places, values, strict=True):
        if value == 0:
            bar.set(edgecolor=colour, linewidth=4, clip_on=False)
        if value == value:
            aside = axes.get_yaxis_transform()
            axes.text(1.015, place, f"{value:.3g}", color=colour, va="center", transform=aside)
    style = {"fmt": "none", "ecolor": "black", "elinewidth": 0.8, "capsize": 2}
    axes.errorbar(values, places, xerr=bounds, **style)
    marks = {"marker": "D", "linestyle": "", "color": PAPER, "markerfacecolor": "white"}
    return axes.plot(frame[f"paper_{column}"], places, clip_on=False, zorder=3, **marks)[0]
