"""Figure 5: content distance against cross-entropy, along purifications."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from puriflow.plots.colours import AIDE

MARKERS = {"attacked": "o", "restored": "^", "diffused": "X", "purified": "*"}  # of states
DENOISING = ("diffused", "back", "purified")  # the states of the panels below
LONG = 14  # points of a step that has an arrow


def draw(frame: pd.DataFrame) -> plt.Figure:
    """A column for each layer: the whole way above, and below its end from `diffused` on, enlarged.

    Args:
        frame: a line, state and layer a row, in order: line, state, layer, features, n,
            content_distance and cross_entropy.
    """
    layers = frame["layer"].unique()
    late = frame["state"].isin(DENOISING)
    count = 2 if late.any() else 1
    size = (3.25, 0.9 + 1.7 * count)
    figure, places = plt.subplots(count, len(layers), figsize=size, sharey="row", squeeze=False)
    for column, layer in zip(places.T, layers, strict=True):
        of_layer = frame["layer"] == layer
        _panel(column[0], frame[of_layer])
        column[0].set_title(layer)
        column[0].set_xlim(left=0)
        if count == 2:
            _panel(column[1], frame[of_layer & late])
            column[1].set_title("enlarged: denoising")
        column[-1].set_xlabel(f"content distance\n({frame['features'].iloc[0]})")
    figure.canvas.draw()  # limits and sizes are final now, and arrows need them
    for column, layer in zip(places.T, layers, strict=True):
        if count == 2:
            _frame(column[0], column[1])
        for axes, rows in zip(column, (frame, frame[late]), strict=False):
            _arrows(axes, rows[rows["layer"] == layer])
    figure.supylabel(f"cross-entropy (nats), {frame['n'].iloc[0]} images", fontsize="medium")
    handles, names = places[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    """One layer: a line for each trajectory, with its states' markers, open of the first one.

    All begin with the same images, whose markers lie on one another.
    """
    for i, (label, rows) in enumerate(frame.groupby("line", sort=False)):
        x, y = rows["content_distance"], rows["cross_entropy"]
        style = "--" if i == 0 else "-"
        (line,) = axes.plot(x, y, marker=".", markersize=2, ls=style, lw=0.8, label=label)
        face: dict[str, Any] = (
            {} if i else {"markerfacecolor": "none", "markersize": 7, "zorder": 3}
        )
        for state, marker in MARKERS.items():
            at = rows["state"] == state
            axes.plot(x[at], y[at], marker=marker, linestyle="", color=line.get_color(), **face)
    for state, marker in MARKERS.items():
        axes.plot([], [], marker=marker, linestyle="", color=AIDE, label=state)
    axes.margins(0.12)  # for the markers
    axes.locator_params(axis="x", nbins=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    low, high = axes.get_ylim()
    if high < 3 * low:  # these would be one tick, or none
        axes.yaxis.set_major_locator(LogLocator(subs=[1 + 0.2 * i for i in range(45)]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _frame(axes: Axes, enlarged: Axes) -> None:
    """Where the enlarged panel lies in the whole one."""
    (left, right), (low, high) = enlarged.get_xlim(), enlarged.get_ylim()
    box = (left, low, right - left, high - low)
    axes.indicate_inset(box, edgecolor=AIDE, linewidth=0.6, linestyle=":", alpha=1)


def _arrows(axes: Axes, frame: pd.DataFrame) -> None:
    """Which way each trajectory goes: an arrow in the middle of every long step."""
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    for label, rows in frame.groupby("line", sort=False):
        points = rows[["content_distance", "cross_entropy"]].to_numpy()
        shown = axes.transData.transform(points) * 72 / axes.figure.dpi
        for here, there in pairwise(shown):
            if not np.hypot(*(there - here)) >= LONG:
                continue
            middle = np.array([here + part * (there - here) for part in (0.45, 0.6)])
            start, end = axes.transData.inverted().transform(middle * axes.figure.dpi / 72)
            look = {"arrowstyle": "-|>", "color": colours[label], "linewidth": 0.8}
            axes.annotate("", end, start, arrowprops=look | {"mutation_scale": 7})
