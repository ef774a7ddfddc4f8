"""Figure 2: images, Grad-CAM over them, and a classifier's answers."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.plots.colours import RIGHT, WRONG
from puriflow.plots.style import bare, picture

COLOURS = {False: WRONG, True: RIGHT}
MARKS = {False: "\N{BALLOT X}", True: "\N{CHECK MARK}"}
ROW, HEADING, FOOT = 0.98, 0.2, 0.6  # inches of a row, of a group's heading, of the legend
OPAQUE = 0.8  # of a map's maximum


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


Lines = Mapping[str, Sequence[Answer]]


def draw(groups: Mapping[str, Lines], explained: str, reference: str) -> plt.Figure:
    """A row for each line, by its label; each image beside itself under its map.

    Args:
        groups: of lines, by what stands above each.
        explained: the class that the maps explain, in words.
        reference: label of the line at whose maximum the maps end.
    """
    count = max(len(answers) for lines in groups.values() for answers in lines.values())
    heights = [height for lines in groups.values() for height in (HEADING, *[ROW] * len(lines))]
    figure = plt.figure(figsize=(3.25, sum(heights) + FOOT))
    grid = figure.add_gridspec(len(heights) + 1, 2 * count, height_ratios=[*heights, FOOT])
    place = 0
    for title, lines in groups.items():
        heading = figure.add_subplot(grid[place, :])
        bare(heading)
        heading.text(0, 0, title, fontweight="bold", transform=heading.transAxes)
        for label, answers in lines.items():
            place += 1
            row = [figure.add_subplot(grid[place, i]) for i in range(2 * count)]
            _line(row, label, answers)
        place += 1
    for plain, over in zip(figure.axes[1 : 2 * count + 1 : 2], figure.axes[2::2], strict=False):
        plain.set_title("image", loc="center")
        over.set_title("Grad-CAM", loc="center")
    _legend(figure.add_subplot(grid[-1, :]), explained, reference)
    return figure


def _line(row: Sequence[Axes], label: str, answers: Sequence[Answer]) -> None:
    """A row: each image, and beside it the same under its map."""
    for answer, plain, over in zip(answers, row[::2], row[1::2], strict=True):
        picture(plain, answer.image)
        picture(over, answer.image)
        heat(over, answer.cam, answer.top)
        name = shorten(answer.name, 14, placeholder="...")
        text = f"{MARKS[answer.correct]} {name}, {100 * answer.confidence:.0f} %"
        plain.set_xlabel(text, x=1, color=COLOURS[answer.correct], parse_math=False)
    row[0].set_ylabel(label.replace(", ", ",\n"))


def _legend(axes: Axes, explained: str, reference: str) -> None:
    """What the colours of the maps and the marks of the answers say."""
    bare(axes)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    said = f"{MARKS[True]} the true class  {MARKS[False]} another, and its probability"
    axes.text(0.5, 1, said, ha="center", va="top")
    axes.text(0.5, 0.62, f"Grad-CAM of {explained}, over the image:", ha="center", va="top")
    levels = np.linspace(0, 1, 256)
    colours = matplotlib.colormaps[plt.rcParams["image.cmap"]](levels)[:, :3]
    alpha = OPAQUE * levels[:, None]
    axes.imshow([alpha * colours + 1 - alpha], extent=(0.08, 0.5, 0, 0.22), aspect="auto")
    axes.text(0.06, 0.11, "0", ha="right", va="center")
    axes.text(0.52, 0.11, f"maximum of '{reference}'", va="center", parse_math=False)


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
    axes.imshow(cam, vmin=0, vmax=top, alpha=OPAQUE * (cam / top).clip(0, 1))
