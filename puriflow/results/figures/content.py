"""Figure 4: content distance from the ground truth by layer, for several kinds of images."""

from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.config import NONE
from puriflow.errors import UserError
from puriflow.metrics.content import content_distance, ratio_of_means
from puriflow.progress import Progress
from puriflow.results.figures.base import Content, Line, Maps
from puriflow.results.figures.built import Built, values_of
from puriflow.results.figures.sources import Sources

SWEEP = ("D", "^", "v", "P", "X", "*", "<", ">")  # markers


def build(figure: Content, sources: Sources) -> Built:
    """Rows of the CSV are one for each line and layer.

    Raises:
        UserError: the reference's distance is 0.
    """
    rows, values = [], []
    with Progress(figure.source, total=len(sources.layers), unit="layers") as progress:
        for layer in sources.layers:
            means, single = measure(figure, sources, layer)
            rows += means
            values += single
            progress.advance(1)
    return Built(rows, values, draw(figure, sources.lines, pd.DataFrame(rows)))


def measure(
    figure: Content | Maps, sources: Sources, layer: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of a layer: mean distances with their ratio to the reference's (95 %), and single ones.

    Raises:
        UserError: the reference's mean distance is 0.
    """
    truth = sources.maps(sources.clean, layer)
    found = {}
    for line in sources.lines:
        maps = sources.maps(sources.images(line), layer)
        found[line.label] = content_distance(maps, truth, figure.definition).cpu().numpy()
    reference = found[figure.reference]
    if not reference.any():
        raise UserError(
            f"{figure.source}: line {figure.reference!r} has content distance 0 at layer {layer}, "
            "and the others cannot be divided by it"
        )
    rows, values = [], []
    for line in sources.lines:
        own = found[line.label]
        values += values_of(line.label, "content_distance", sources.indices, own, layer)
        row = {**sources.described(line), "layer": layer, "n": len(own)}
        row |= {"definition": figure.definition, "content_distance": own.mean()}
        names = ("normalised", "normalised_low", "normalised_high")
        row |= zip(names, ratio_of_means(own, reference), strict=True)
        rows.append(row | {"note": sources.note(line)})
    return rows, values


def draw(figure: Content, lines: list[Line], frame: pd.DataFrame) -> plt.Figure:
    """A panel below another."""
    count = len(figure.panels)
    drawn, places = plt.subplots(count, 1, figsize=(3.25, 2.4 * count), squeeze=False)
    for axes, (letter, title) in zip(places[:, 0], figure.panels.items(), strict=True):
        _panel(axes, frame, [x for x in lines if x.panels is None or letter in x.panels])
        axes.set_title(f"({letter}) {title}")
        axes.set_ylabel(f"content distance, {figure.reference} = 1")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.11)}
        axes.legend(ncols=4, columnspacing=1, handlelength=1.6, **below)
    layers, n = frame["features"].iloc[0], frame["n"].iloc[0]
    drawn.supxlabel(f"layer of {layers}; {n} images, 95 % intervals", fontsize="medium")
    return drawn


def _panel(axes: Axes, frame: pd.DataFrame, lines: list[Line]) -> None:
    """One panel: a point for each line and layer, side by side so that none hides another."""
    styles = _sweep(lines)
    for i, line in enumerate(lines):
        rows = frame[frame["line"] == line.label]
        bounds = [
            rows["normalised"] - rows["normalised_low"],
            rows["normalised_high"] - rows["normalised"],
        ]
        x = np.arange(len(rows)) + 0.4 * ((i + 0.5) / len(lines) - 0.5)
        style = styles.get(line.label, {"zorder": 3})
        axes.errorbar(x, rows["normalised"], yerr=bounds, label=line.label, elinewidth=0.5, **style)
    axes.set_xticks(range(len(rows)), rows["layer"])


def _sweep(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """The looks, by label, of several lines that only a purifier made: from dark to light."""
    labels = [x.label for x in lines if x.restorer == NONE and x.purifier != NONE]
    if len(labels) < 2:
        return {}
    ramp = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, len(labels)))
    looks = zip(labels, ramp, cycle(SWEEP), strict=False)
    return {
        label: {"color": colour, "marker": marker, "linestyle": "--"}
        for label, colour, marker in looks
    }
