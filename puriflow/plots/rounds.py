"""Figure 6: errors, cross-entropy and accuracies by rounds of super-resolution."""

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.colours import CROSS_ENTROPY, ROBUST, SQUARED_ERROR, STANDARD
from puriflow.plots.style import labelled


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Above, error and cross-entropy on two axes; below, the two accuracies.

    Args:
        frame: a line a row: line, n, and mse, cross_entropy, standard and robust (in percent) with
            their bounds, and whether the attack failed (`attack_failed`).
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(3.25, 3.6), sharex=True)
    beside = above.twinx()
    beside.spines["right"].set_visible(True)
    above.spines["right"].set_visible(False)
    beside.spines["left"].set_visible(False)
    _line(above, frame, "mse", -0.05, color=SQUARED_ERROR, marker="s")
    _line(beside, frame, "cross_entropy", 0.05, color=CROSS_ENTROPY, marker="D", linestyle="--")
    # who sees no colours goes by the markers
    above.set_ylabel("mean squared error (\N{BLACK SQUARE})", color=SQUARED_ERROR)
    beside.set_ylabel("cross-entropy (nats) (\N{BLACK DIAMOND})", color=CROSS_ENTROPY)
    for axes, side, colour in (
        (above, "left", SQUARED_ERROR),
        (beside, "right", CROSS_ENTROPY),
    ):
        axes.tick_params(axis="y", colors=colour)
        axes.yaxis.get_offset_text().set_color(colour)
        axes.spines[side].set_color(colour)
        axes.spines[side].set_linewidth(1.2)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    above.set_title("attacked images")
    _line(below, frame, "standard", -0.05, color=STANDARD, marker="o")
    _line(below, frame, "robust", 0.05, color=ROBUST, marker="^")
    below.set_ylim(0, 100)
    below.set_xticks(range(len(frame)), labelled(frame, "line"))
    below.set_ylabel("accuracy (%)")
    below.set_xlabel(f"{frame['n'].iloc[0]} images, 95 % intervals")
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _line(axes: Axes, frame: pd.DataFrame, column: str, shift: float, **style: Any) -> None:
    """A column with its intervals; markers at the axes' ends are whole."""
    bounds = [frame[column] - frame[f"{column}_low"], frame[f"{column}_high"] - frame[column]]
    x = [i + shift for i in range(len(frame))]
    shared = {"elinewidth": 0.6, "capsize": 2, "clip_on": False, "zorder": 3}
    axes.errorbar(x, frame[column], yerr=bounds, label=column, **shared, **style)
