"""A sweep: its numbers along one of the roles, or along an option of one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from puriflow.plots.style import AIDE, WRONG

BESIDE = 22  # characters of a legend of two columns: longer ones stand below each other
LINE = 0.14  # inches of a line of a legend
APART = 0.008  # of lines at one place, so that each interval is seen; of the axis


def draw(frame: pd.DataFrame, panels: Mapping[str, str], along: str, reference: str) -> plt.Figure:
    """A panel for each metric, with the lines of the frame.

    Args:
        frame: a number a row: along, line, metric, value, low, high, n; and `attack_failed`, where
            an attack failed that it rests on: there is a cross.
        panels: metrics, and what their axes say; a unit of percent goes from 0 to 100.
        along: what the axis below says.
        reference: the line that has a place of its own along the axis, and is drawn at any.
    """
    aside, rest = frame[frame["line"] == reference], frame[frame["line"] != reference]
    lines, numeric = list(rest["line"].unique()), is_numeric_dtype(rest["along"])
    columns = 2 if max(map(len, frame["line"].unique()), default=0) <= BESIDE else 1
    height = 1.6 * len(panels) + LINE * max(0, len(lines) / columns - 2)
    figure, places = plt.subplots(
        len(panels), 1, figsize=(3.25, height), sharex=True, squeeze=False
    )
    colours = len(plt.rcParams["axes.prop_cycle"])
    span = rest["along"].max() - rest["along"].min() if numeric else 0
    for axes, (metric, label) in zip(places[:, 0], panels.items(), strict=True):
        for i, line in enumerate(lines):
            rows = rest[(rest["metric"] == metric) & (rest["line"] == line)]
            apart = APART * span * (i - (len(lines) - 1) / 2)
            _line(axes, rows, line, apart, dashed=i >= colours)
        for row in aside[aside["metric"] == metric].itertuples():
            axes.axhspan(row.low, row.high, color=AIDE, alpha=0.15, linewidth=0)
            said = f"{reference} (n = {row.n})"
            axes.axhline(row.value, color=AIDE, linestyle="--", label=said)
        axes.set_ylabel(label)
        axes.set_ylim(0, 100 if "%" in label else None)
    last = places[-1, 0]
    n = "" if frame.empty else f"; {frame['n'].iloc[0]} images, 95 % intervals"
    crosses = "\n(crosses: an attack failed)" if frame["attack_failed"].notna().any() else ""
    last.set_xlabel(f"{along}{n}{crosses}")
    if not numeric:
        plt.setp(last.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    if len(lines) > 1 or not aside.empty:
        handles = places[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, label: str, apart: float, *, dashed: bool) -> None:
    """One line along the picture with its intervals, moved a little from those of the others.

    It is dashed if another one has its colour.
    """
    bounds = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    style: dict[str, Any] = {"elinewidth": 0.6, "capsize": 2, "linestyle": "--" if dashed else "-"}
    if not is_numeric_dtype(rows["along"]):
        style["linestyle"] = ""  # there is nothing between two names
    along = rows["along"] + apart if apart else rows["along"]
    axes.errorbar(along, rows["value"], yerr=bounds, label=label, **style)
    failed = rows["attack_failed"].notna()
    axes.plot(along[failed], rows["value"][failed], "x", color=WRONG, zorder=3)
