"""A sweep: its numbers along one of the roles, or along an option of one."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from puriflow.plots.style import WRONG


def draw(
    frame: pd.DataFrame, panels: Mapping[str, str], along: str, others: Sequence[str]
) -> plt.Figure:
    """A panel for each metric, with a line for each combination of what does not lie along it.

    Args:
        frame: a number a row: along, metric, value, low, high, n, and the columns of `others`; and
            `attack_failed`, where an attack failed that it rests on: there is a cross.
        panels: metrics, and what their axes say; a unit of percent goes from 0 to 100.
        along: what the axis below says.
        others: the columns of which there are several values.
    """
    figure, places = plt.subplots(len(panels), 1, figsize=(3.25, 1.6 * len(panels)), sharex=True)
    for axes, (metric, label) in zip(places, panels.items(), strict=True):
        rows = frame[frame["metric"] == metric]
        for name, line in rows.groupby(list(others), sort=False) if others else [((), rows)]:
            _line(axes, line, ", ".join(name))
        failed = rows.dropna(subset="attack_failed")
        axes.plot(failed["along"], failed["value"], "x", color=WRONG, zorder=3)
        axes.set_ylabel(label)
        axes.set_ylim(0, 100 if "%" in label else None)
    n = "" if frame.empty else f"; {frame['n'].iloc[0]} images, 95 % intervals"
    crosses = "\n(crosses: an attack failed)" if frame["attack_failed"].notna().any() else ""
    places[-1].set_xlabel(f"{along}{n}{crosses}")
    if not is_numeric_dtype(frame["along"]):
        plt.setp(places[-1].get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    if others:
        handles = places[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """One combination along the picture, with its intervals."""
    bounds = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    style: dict[str, Any] = {"elinewidth": 0.6, "capsize": 2}
    if not is_numeric_dtype(rows["along"]):
        style["linestyle"] = ""  # there is nothing between two names
    axes.errorbar(rows["along"], rows["value"], yerr=bounds, label=label, **style)
