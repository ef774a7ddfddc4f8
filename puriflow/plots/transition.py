"""Figure 5: content distance against cross-entropy, along purifications."""

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from puriflow.plots.style import AIDE

MARKERS = {"attacked": "o", "restored": "^", "diffused": "X", "purified": "*"}  # of states


def draw(frame: pd.DataFrame) -> plt.Figure:
    """A panel for each layer, side by side.

    Args:
        frame: a line, state and layer a row, in order: line, state, layer, features, n,
            content_distance and cross_entropy.
    """
    layers = frame["layer"].unique()
    figure, places = plt.subplots(1, len(layers), figsize=(3.25, 2.4), sharey=True, squeeze=False)
    for axes, layer in zip(places[0], layers, strict=True):
        _panel(axes, frame[frame["layer"] == layer])
        axes.set_title(f"{layer} of {frame['features'].iloc[0]}")
        axes.set_xlabel("content distance")
    places[0, 0].set_ylabel(f"cross-entropy (nats), {frame['n'].iloc[0]} images")
    handles, names = places[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    """One layer: a line for each trajectory, with its states' markers, open of the first one.

    All begin with the same images, whose markers lie on one another.
    """
    for i, (label, rows) in enumerate(frame.groupby("line", sort=False)):
        x, y = rows["content_distance"], rows["cross_entropy"]
        (line,) = axes.plot(x, y, marker=".", markersize=2, linewidth=0.8, label=label)
        face: dict[str, Any] = (
            {} if i else {"markerfacecolor": "none", "markersize": 7, "zorder": 3}
        )
        for state, marker in MARKERS.items():
            at = rows["state"] == state
            axes.plot(x[at], y[at], marker=marker, linestyle="", color=line.get_color(), **face)
    for state, marker in MARKERS.items():
        axes.plot([], [], marker=marker, linestyle="", color=AIDE, label=state)
    axes.margins(0.1)  # for the markers
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
