"""How many draws of a gradient are enough: cosines and an attack's success against their number."""

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.colours import AIDE
from puriflow.plots.style import looks, titled

COSINES = ("split_half_cosine", "expected_cosine")  # measured, and not
WIDTH, HEIGHT = 2.9, 2.6  # inches of a panel


def draw(frame: pd.DataFrame, wanted: float, title: str) -> plt.Figure:
    """Three panels with a look for each method.

    The cosine at clean images, that at attacked ones, and the share of answers that are wrong under
    the attack. Cosines without a mark are not measured, but follow from the last mark.

    Args:
        frame: a number a row: method, images, draws, metric, value, low, high, n.
        wanted: the cosine at which there is a line from side to side.
        title: above the picture.
    """
    rows = frame.dropna(subset=["draws", "value"])
    figure, places = plt.subplots(1, 3, figsize=(3 * WIDTH, HEIGHT))
    styles = dict(zip(rows["method"].unique(), looks(), strict=False))
    for axes, images in zip(places, ("clean", "attacked"), strict=False):
        _curves(axes, rows[(rows["images"] == images) & rows["metric"].isin(COSINES)], styles)
        axes.axhline(wanted, color=AIDE, linestyle="--", marker="", zorder=0)
        axes.set(title=f"at {images} images", ylabel="split-half cosine", ylim=(-0.05, 1.05))
        axes.set_xlabel("draws of a gradient")
    _success(places[2], rows[rows["metric"] == "success_average"], styles)
    n = "" if rows.empty else f"{rows['n'].iloc[0]:.0f} images, 95 % intervals"
    titled(figure, f"{title}\n{n}")
    if styles:
        handles = places[2].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3)
    return figure


def _curves(axes: Axes, rows: pd.DataFrame, styles: dict[str, Any]) -> None:
    """The cosines of each method, in the band of their intervals."""
    for method, own in rows.groupby("method", sort=False):
        colour = styles[str(method)]["color"]
        measured = own[own["metric"] == "split_half_cosine"]
        axes.plot(measured["draws"], measured["value"], **styles[str(method)])
        axes.plot(own["draws"], own["value"], color=colour, linestyle=":", marker="", zorder=0)
        draws = own["draws"].astype(float)
        axes.fill_between(draws, own["low"], own["high"], color=colour, alpha=0.1, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def _success(axes: Axes, rows: pd.DataFrame, styles: dict[str, Any]) -> None:
    """The success of an attack with so many draws, of each method."""
    for method, own in rows.groupby("method", sort=False):
        bounds = [own["value"] - own["low"], own["high"] - own["value"]]
        look: dict[str, Any] = {"elinewidth": 0.6, "capsize": 2, **styles[str(method)]}
        axes.errorbar(own["draws"].astype(float), own["value"], yerr=bounds, label=method, **look)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(title="under the attack", ylabel="wrong answers (%)", ylim=(0, 100))
    axes.set_xlabel("draws of each step (eot_iter)")
