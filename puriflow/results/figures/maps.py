"""Figure 3: several kinds of images, and their feature maps at one layer.

A map of many channels is shown as the mean of their absolute values; below it is the mean absolute
difference from the clean image's. Each of the two rows has one scale for all kinds of images.
"""

import numpy as np
from matplotlib import pyplot as plt

from puriflow.errors import UserError
from puriflow.progress import Progress
from puriflow.results.figures.attention import picture
from puriflow.results.figures.base import Maps
from puriflow.results.figures.built import Built, values_of
from puriflow.results.figures.content import measure
from puriflow.results.figures.sources import Sources


def build(figure: Maps, sources: Sources) -> Built:
    """Rows of the CSV are one for each line, with its squared error as well.

    Raises:
        UserError: the configuration lists several layers, or an image that is shown is not there.
    """
    sources.check_shown()
    if len(sources.layers) != 1:
        raise UserError(f"features {figure.features}: a figure of maps takes one layer")
    with Progress(figure.source, total=1, unit="layers") as progress:
        rows, values = measure(figure, sources, sources.layers[0])
        progress.advance(1)
    for line, row in zip(sources.lines, rows, strict=True):
        errors = sources.errors(line)
        row["mse"] = errors.mean()
        values += values_of(line.label, "mse", sources.indices, errors)
    return Built(rows, values, draw(figure, sources, rows[0]["features"]))


def draw(figure: Maps, sources: Sources, network: str) -> plt.Figure:
    """A column for each line; for each image that is shown, three rows of the network's layer."""
    shown, lines = figure.shown, sources.lines
    size = (3.25, 0.3 + 0.65 * 3 * len(shown))
    drawn, places = plt.subplots(3 * len(shown), len(lines), figsize=size, squeeze=False)
    drawn.supxlabel(f"features: {sources.layers[0]} of {network}", fontsize="medium")
    for axes, line in zip(places[0], lines, strict=True):
        axes.set_title(line.label, loc="center")
    for place, i in enumerate(shown):
        above, middle, below = places[3 * place : 3 * place + 3]
        images = [sources.images(line)[i] for line in lines]
        truth = _maps(sources, sources.clean[i])
        maps = [_maps(sources, image) for image in images]
        for axes, image in zip(above, images, strict=True):
            picture(axes, image)
        _heat(middle, [np.abs(x).mean(axis=0) for x in maps])
        _heat(below, [np.abs(x - truth).mean(axis=0) for x in maps])
        for axes, name in zip((above, middle, below), ("image", "features", "change"), strict=True):
            axes[0].set_ylabel(name)
    return drawn


def _maps(sources: Sources, image: np.ndarray) -> np.ndarray:
    return sources.maps(image[None], sources.layers[0])[0].cpu().numpy()


def _heat(row: np.ndarray, maps: list[np.ndarray]) -> None:
    """Maps (h, w) in a row of axes, on one scale from 0."""
    top = max(m.max() for m in maps)
    for axes, m in zip(row, maps, strict=True):
        axes.imshow(m, vmin=0, vmax=top)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
