"""Figure 4: content distance by layer, over that of a reference."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from puriflow.plots.colours import AIDE
from puriflow.plots.ends import End, label_ends

MARKERS = ("D", "^", "v", "P", "X", "*", "<", ">")


def draw(
    frame: pd.DataFrame, panels: Mapping[str, Sequence[str]], reference: str, levels: Sequence[str]
) -> plt.Figure:
    """A panel below another.

    Args:
        frame: a line and layer a row: line, layer, features, n, and `normalised` with its bounds.
        panels: by title, the labels of the lines in it.
        reference: label of the line whose distance is 1.
        levels: labels of lines that are levels of one thing: several of them in a panel go from
            dark to light.
    """
    count = len(panels)
    figure, places = plt.subplots(count, 1, figsize=(3.25, 2.2 * count), squeeze=False)
    drawn = []
    for axes, (title, labels) in zip(places[:, 0], panels.items(), strict=True):
        axes.set_title(title)
        axes.set_ylabel(f"content distance, {reference} = 1")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        ends = _panel(axes, frame, labels, _styles([x for x in labels if x in levels]))
        axes.axhline(1, color=AIDE, linewidth=0.6, linestyle=":", zorder=0)
        drawn.append((axes, ends))
    layers, n = frame["features"].iloc[0], frame["n"].iloc[0]
    figure.supxlabel(f"layer of {layers}; {n} images, 95 % intervals", fontsize="medium")
    figure.canvas.draw()  # for the height of the axes
    for axes, ends in drawn:
        label_ends(axes, ends)
    return figure


def _panel(
    axes: Axes, frame: pd.DataFrame, labels: Sequence[str], styles: Mapping[str, dict[str, Any]]
) -> list[End]:
    """One panel: a point for each line and layer, side by side so that none hides another.

    Returns:
        The ends of the lines.
    """
    ends = []
    for i, label in enumerate(labels):
        rows = frame[frame["line"] == label]
        bounds = [
            rows["normalised"] - rows["normalised_low"],
            rows["normalised_high"] - rows["normalised"],
        ]
        x = np.arange(len(rows)) + 0.4 * ((i + 0.5) / len(labels) - 0.5)
        style = styles.get(label, {"zorder": 3})
        drawn = axes.errorbar(x, rows["normalised"], yerr=bounds, elinewidth=0.5, **style)
        ends.append(End(x[-1], rows["normalised"].iloc[-1], label, drawn.lines[0].get_color()))
    layers = frame["layer"].unique()
    axes.set_xticks(range(len(layers)), layers)
    return ends


def _styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The styles, by label, of several levels: from dark to light."""
    if len(labels) < 2:
        return {}
    ramp = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, len(labels)))
    return {
        label: {"color": colour, "marker": marker, "linestyle": "--"}
        for label, colour, marker in zip(labels, ramp, cycle(MARKERS), strict=False)
    }
