"""Figure 3: images above their feature maps, above how these differ from the clean image's."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from puriflow.plots.style import bare, picture

ROWS = ("image", "features", "change")


def draw(columns: Mapping[str, Sequence[Sequence[np.ndarray]]], layer: str) -> plt.Figure:
    """A column for each line, by its label; three rows for each image.

    Args:
        columns: of every image, itself (3, H, W) on [0, 1], its features (h, w), and their change.
        layer: where the features are from.
    """
    images = list(zip(*columns.values(), strict=True))
    size = (3.25, 0.4 + 0.65 * len(ROWS) * len(images))
    count = len(ROWS) * len(images)
    widths = [1] * len(columns) + [0.08]
    figure, places = plt.subplots(count, len(widths), figsize=size, width_ratios=widths)
    below = f"features: mean |channel| at {layer}\nchange: mean |channel less the clean image's|"
    figure.supxlabel(below, fontsize="medium")
    for axes, label in zip(places[0], columns, strict=False):
        axes.set_title(label, loc="center")
    for place, of_columns in enumerate(images):
        rows = places[len(ROWS) * place : len(ROWS) * (place + 1)]
        plain, features, changes = zip(*of_columns, strict=True)
        for axes, image in zip(rows[0], plain, strict=False):
            picture(axes, image)
        rows[0, -1].set_axis_off()
        _heat(figure, rows[1], features)
        _heat(figure, rows[2], changes)
        for axes, name in zip(rows, ROWS, strict=True):
            axes[0].set_ylabel(name)
    return figure


def _heat(figure: plt.Figure, row: np.ndarray, maps: Sequence[np.ndarray]) -> None:
    """Maps (h, w) in a row of axes, on one scale from 0, which a bar at the right has."""
    *places, aside = row
    top = max(m.max() for m in maps)
    drawn = [axes.imshow(m, vmin=0, vmax=top) for axes, m in zip(places, maps, strict=True)]
    for axes in places:
        bare(axes)
    bar = figure.colorbar(drawn[0], cax=aside)
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
