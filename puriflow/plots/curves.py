"""Certified accuracy against radius."""

from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.style import titled

DASHES = ("-", "--", ":", "-.")  # for those who see no colours


def draw(frame: pd.DataFrame, title: str) -> plt.Figure:
    """A panel for each sigma, with a curve of its own colour and dashes for each method.

    Args:
        frame: a method, sigma and radius a row, with `certified_accuracy` between `low` and `high`,
            all in percent, and n, draws and alpha.
        title: above the picture.
    """
    rows = frame.dropna(subset="radius")
    sigmas = sorted(rows["sigma"].unique())
    count = max(len(sigmas), 1)
    reached = rows.loc[rows["certified_accuracy"] > 0, "radius"].max()
    size = (1 + 3.6 * count, 4)
    figure, places = plt.subplots(1, count, figsize=size, sharey=True, squeeze=False)
    wheel = zip(cycle(plt.rcParams["axes.prop_cycle"].by_key()["color"]), cycle(DASHES))
    looks = dict(zip(rows["method"].unique(), wheel, strict=False))
    for axes, sigma in zip(places[0], sigmas, strict=False):
        _panel(axes, rows[rows["sigma"] == sigma], looks)
        axes.set_xlim(0, 1.2 * reached if reached > 0 else None)
        axes.set_title(f"$\\sigma$ = {sigma:g}")
    places[0, 0].set_ylabel("certified accuracy (%)")
    if len(rows):
        n, draws, alpha = rows[["n", "draws", "alpha"]].iloc[0]
        title += f"\n{n:.0f} images, {draws:.0f} draws, alpha = {alpha:g}, 95 % Wilson intervals"
        handles, names = places[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3))
    titled(figure, title)
    return figure


def _panel(axes: Axes, curves: pd.DataFrame, looks: dict[Any, tuple[str, str]]) -> None:
    """One panel. Between two radii a curve has the value of the larger: it is certified there."""
    for method, curve in curves.groupby("method", sort=False):
        x, y = curve["radius"], curve["certified_accuracy"]
        colour, dashes = looks[method]
        axes.step(x, y, where="pre", color=colour, ls=dashes, marker="", label=method)
        axes.fill_between(x, curve["low"], curve["high"], step="pre", color=colour, alpha=0.1, lw=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel(r"$\ell_2$ radius on [0, 1] images")
