"""Figure 2: images, Grad-CAM over them, and a classifier's answers."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.style import RIGHT, WRONG, picture

COLOURS = {False: WRONG, True: RIGHT}
MARKS = {False: "\N{BALLOT X}", True: "\N{CHECK MARK}"}


class Answer(NamedTuple):
    """A classifier's answer to one image.

    Attributes:
        image: (3, H, W) on [0, 1]; values outside are clipped.
        cam: Grad-CAM (H, W), not negative.
        top: where colour and opacity of the map end.
        name: of the class.
        confidence: its probability.
        correct: whether it is the image's.
    """

    image: np.ndarray
    cam: np.ndarray
    top: float
    name: str
    confidence: float
    correct: bool


def draw(lines: Mapping[str, Sequence[Answer]]) -> plt.Figure:
    """A row for each line, by its label; each image beside itself under its map."""
    count = max(map(len, lines.values()))
    size = (3.25, 0.98 * len(lines))
    figure, places = plt.subplots(len(lines), 2 * count, figsize=size, squeeze=False)
    for (label, answers), row in zip(lines.items(), places, strict=True):
        for answer, plain, over in zip(answers, row[::2], row[1::2], strict=True):
            picture(plain, answer.image)
            picture(over, answer.image)
            heat(over, answer.cam, answer.top)
            name = shorten(answer.name, 14, placeholder="...")
            text = f"{MARKS[answer.correct]} {name}, {100 * answer.confidence:.0f} %"
            plain.set_xlabel(text, x=1, color=COLOURS[answer.correct])
        row[0].set_ylabel(label.replace(", ", ",\n"))
    return figure


def heat(axes: Axes, cam: np.ndarray, top: float) -> None:
    """A map (H, W) over an image: the less there is of it, the more is seen of the image.

    Colour and opacity end at `top`, the reference's maximum, so that one image's maps compare.
    """
    if not cam.any():
        box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1}
        middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no\nactivation", color="white", bbox=box, **middle)
        return
    top = top or cam.max()
    axes.imshow(cam, vmin=0, vmax=top, alpha=0.8 * (cam / top).clip(0, 1))
