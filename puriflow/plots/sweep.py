"""A sweep: its numbers along one of the roles, or along an option of one."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from pandas.api.types import is_numeric_dtype

from puriflow.plots.colours import AIDE, WRONG
from puriflow.plots.style import looks

BESIDE = 22  # characters of a legend of two columns: longer ones stand below each other
LINE = 0.14  # inches of a line of a legend
LETTERS = 50  # of a line below the axis
APART = 0.008  # of lines at one place, so that each interval is seen; of the axis
NAMED = 0.5  # the same of all lines at a name, of the room between two


def draw(
    frame: pd.DataFrame, panels: Mapping[str, str], along: str, reference: str, heading: str
) -> plt.Figure:
    """A panel for each metric, with the lines of the frame.

    Args:
        frame: a number a row: along, line, metric, value, low, high, n; and `attack_failed`, where
            an attack failed that it rests on: there is a cross.
        panels: metrics, and what their axes say; a unit of percent goes from 0 to 100.
        along: what the axis below says.
        reference: the line that has a place of its own along the axis, and is drawn at any.
        heading: of the legend, what tells the lines apart.
    """
    aside, rest = frame[frame["line"] == reference], frame[frame["line"] != reference]
    lines, numeric = list(rest["line"].unique()), is_numeric_dtype(rest["along"])
    names = [] if numeric else list(rest["along"].unique())
    if not numeric:
        rest = rest.assign(along=rest["along"].map(names.index).astype(float))
    columns = 2 if max(map(len, frame["line"].unique()), default=0) <= BESIDE else 1
    height = 0.5 + 1.55 * len(panels) + LINE * (1 + len(lines) / columns)
    height += 0.05 * max(map(len, names), default=0)  # they stand aslant
    figure, places = plt.subplots(
        len(panels), 1, figsize=(3.25, height), sharex=True, squeeze=False
    )
    span = rest["along"].max() - rest["along"].min()
    apart = APART * span if numeric else NAMED / max(len(lines), 1)
    for axes, (metric, label) in zip(places[:, 0], panels.items(), strict=True):
        _lines(axes, rest[rest["metric"] == metric], lines, apart, between=numeric)
        for row in aside[aside["metric"] == metric].itertuples():
            axes.axhspan(row.low, row.high, color=AIDE, alpha=0.15, linewidth=0)
            said = f"{reference} (n = {row.n:.0f})"
            axes.axhline(row.value, color=AIDE, linestyle="--", label=said)
        axes.set_ylabel(label)
        _scale(axes, frame[frame["metric"] == metric]["value"], metric, label)
    last = places[-1, 0]
    n = [] if frame.empty else [f"{frame['n'].iloc[0]:.0f} images, 95 % intervals"]
    crosses = ["(crosses: an attack failed)"] if frame["attack_failed"].notna().any() else []
    last.set_xlabel("\n".join([fill(along, LETTERS), *n, *crosses]))
    if not numeric:
        turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
        last.set_xticks(range(len(names)), names, **turned)
    if len(lines) > 1 or not aside.empty:
        handles = places[0, 0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=columns, title=heading)
    return figure


def _lines(
    axes: Axes, frame: pd.DataFrame, lines: list[str], apart: float, *, between: bool
) -> None:
    """The lines of one panel with their intervals, each a little apart from the one before.

    There is no line `between` two names.
    """
    whole = {"zorder": 3, "clip_on": False}  # at 0 and at 100
    for i, (line, look) in enumerate(zip(lines, looks(), strict=False)):
        rows = frame[frame["line"] == line]
        bounds = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        style: dict[str, Any] = {"elinewidth": 0.6, "capsize": 2, **whole, **look}
        style |= {} if between else {"linestyle": ""}
        along = rows["along"] + apart * (i - (len(lines) - 1) / 2)
        axes.errorbar(along, rows["value"], yerr=bounds, label=line, **style)
        if (failed := rows["attack_failed"].notna()).any():
            axes.plot(along[failed], rows["value"][failed], "x", color=WRONG, **whole)


def _scale(axes: Axes, values: pd.Series, metric: str, label: str) -> None:
    """The scale of a panel: of percent from 0 to 100, of cross-entropies by their logarithm."""
    if "%" in label:
        axes.set_ylim(0, 100)
    elif metric.startswith("cross_entropy") and (values > 0).all() and len(values):
        axes.set_yscale("log")
        low, high = 0.6 * values.min(), 2 * values.max()  # an interval may go below 0
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        for drawn in (*axes.lines, *axes.collections):
            drawn.set_clip_on(True)
    else:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
