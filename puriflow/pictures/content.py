"""Figure 4: content distance from the ground truth by layer, for several kinds of images."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.config import NONE
from puriflow.metrics.content import content_distance, ratio_of_means
from puriflow.pictures.figure import Content, Line, Maps
from puriflow.pictures.sources import Sources
from puriflow.progress import Progress


def build(figure: Content, sources: Sources) -> tuple[list[dict[str, Any]], plt.Figure]:
    """The CSV's rows, one for each line and layer, and the drawing."""
    rows = []
    with Progress(figure.source, total=len(sources.layers), unit="layers") as progress:
        for layer in sources.layers:
            rows += measure(figure, sources, layer)
            progress.advance(1)
    return rows, draw(figure, sources.lines, pd.DataFrame(rows))


def measure(figure: Content | Maps, sources: Sources, layer: str) -> list[dict[str, Any]]:
    """Mean distances at a layer, and their ratio to the reference's with a 95 % interval."""
    truth = sources.maps(sources.clean, layer)
    found = {}
    for line in sources.lines:
        maps = sources.maps(sources.images(line), layer)
        found[line.label] = content_distance(maps, truth, figure.definition).cpu().numpy()
    rows = []
    for line in sources.lines:
        values = found[line.label]
        ratio, low, high = ratio_of_means(values, found[figure.reference])
        rows.append(
            {
                **sources.described(line),
                "layer": layer,
                "n": len(values),
                "definition": figure.definition,
                "content_distance": values.mean(),
                "normalised": ratio,
                "normalised_low": low,
                "normalised_high": high,
                "note": sources.note(line),
            }
        )
    return rows


def draw(figure: Content, lines: list[Line], frame: pd.DataFrame) -> plt.Figure:
    """A panel below another; what only a purifier made is coloured by its place in the file."""
    count = len(figure.panels)
    drawn, places = plt.subplots(count, 1, figsize=(3.25, 2.3 * count), squeeze=False)
    for axes, (letter, title) in zip(places[:, 0], figure.panels.items(), strict=True):
        _panel(axes, frame, [x for x in lines if x.panels is None or letter in x.panels], lines)
        axes.set_title(f"({letter}) {title}")
        axes.set_ylabel(f"content distance, {figure.reference} = 1")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(ncols=2)
    layers, n = frame["features"].iloc[0], frame["n"].iloc[0]
    places[-1, 0].set_xlabel(f"layer of {layers}; {n} images, 95 % intervals")
    return drawn


def _panel(axes: Axes, frame: pd.DataFrame, here: list[Line], lines: list[Line]) -> None:
    sweep = [x.label for x in lines if x.restorer == NONE and x.purifier != NONE]
    ramp = matplotlib.colormaps["cividis"](np.linspace(0, 0.85, max(len(sweep), 1)))
    for i, line in enumerate(here):
        rows = frame[frame["line"] == line.label]
        style = {"linestyle": "--", "marker": "."} if line.label in sweep else {"zorder": 3}
        if line.label in sweep:
            style["color"] = ramp[sweep.index(line.label)]
        shift = 0.04 * (i - len(here) / 2)  # intervals side by side
        bounds = [
            rows["normalised"] - rows["normalised_low"],
            rows["normalised_high"] - rows["normalised"],
        ]
        x = np.arange(len(rows)) + shift
        axes.errorbar(x, rows["normalised"], yerr=bounds, label=line.label, elinewidth=0.5, **style)
    axes.set_xticks(range(len(rows)), rows["layer"])
