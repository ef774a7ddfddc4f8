"""An audit on one page: loss paths, accuracy against eps, agreeing gradients, and the checks."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.colours import AIDE, RIGHT, ROBUST, WRONG
from puriflow.plots.style import bare, titled

COLOURS = {"passed": RIGHT, "failed": WRONG, "not decidable": AIDE}
WIDTH = 105  # letters of a line of evidence


def draw(
    checks: pd.DataFrame,
    losses: Sequence[Sequence[float]],
    eps: Sequence[Mapping[str, float]],
    eot: Sequence[Mapping[str, float]],
    title: str,
) -> plt.Figure:
    """The page.

    Args:
        checks: a check a row: check, verdict, evidence.
        losses: (images, points) along the attack.
        eps: a radius each: eps, and accuracy between low and high, in [0, 1].
        eot: a number of draws each: draws, cosine.
        title: above it.
    """
    figure = plt.figure(figsize=(9, 3.4 + 0.24 * len(checks)))
    heights = [3, 0.3 + 0.24 * len(checks)]
    above, below = figure.add_gridspec(2, 1, height_ratios=heights)
    panels = above.subgridspec(1, 3)
    path, curve, cosines = (figure.add_subplot(panels[0, i]) for i in range(3))
    path.set(xlabel="point of the attack's path", ylabel="cross-entropy (nats)")
    if len(losses):
        path.plot(np.transpose(losses), marker="", lw=0.8, alpha=0.7)
        path.set_yscale("symlog", linthresh=1)
    _curve(curve, pd.DataFrame(list(eps)))
    cosines.set(
        xlabel="draws of a mean gradient", ylabel="cosine with another mean", ylim=(-0.1, 1)
    )
    if eot:
        cosines.plot([row["draws"] for row in eot], [row["cosine"] for row in eot])
        cosines.set_xscale("log", base=2)
    else:
        cosines.text(0.5, 0.5, "nothing is random", transform=cosines.transAxes, ha="center")
    axes = figure.add_subplot(below)
    bare(axes)
    axes.set(xlim=(0, 1), ylim=(len(checks), 0))
    for place, row in enumerate(checks.to_dict("records")):
        y = place + 0.5
        axes.text(0, y, row["check"], va="center")
        axes.text(0.19, y, row["verdict"], va="center", color=COLOURS[row["verdict"]])
        said = row["evidence"]
        axes.text(0.29, y, said if len(said) <= WIDTH else f"{said[:WIDTH]}...", va="center")
    titled(figure, title)
    return figure


def _curve(axes: Axes, rows: pd.DataFrame) -> None:
    """Accuracy against eps."""
    axes.set(xlabel="eps on [0, 1]", ylabel="accuracy (%)", ylim=(-3, 103))
    if len(rows):
        axes.plot(rows["eps"], 100 * rows["accuracy"], color=ROBUST)
        bounds = 100 * rows["low"], 100 * rows["high"]
        axes.fill_between(rows["eps"], *bounds, color=ROBUST, alpha=0.15, lw=0)
