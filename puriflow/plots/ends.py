"""Lines that are labelled at their ends, where the eye is, and not in a legend."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

APART = 1.25  # heights of a line of text, from one label to the next


class End(NamedTuple):
    """The last point of a line, in data, with what the line is called and its colour."""

    x: float
    y: float
    label: str
    colour: Any  # as matplotlib takes it


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write each line's label at the right of its end, as high as it, but apart from the others.

    The scales and limits of the axes must be as they will be. A thin line in the line's colour
    leads to its end; the text is black, since light colours cannot be read.
    """
    kept = [end for end in ends if end.y == end.y]
    inches = axes.get_window_extent().height / axes.figure.dpi
    line = APART * plt.rcParams["font.size"] / 72 / inches
    wanted = [axes.transAxes.inverted().transform(axes.transData.transform(e[:2]))[1] for e in kept]
    look = {"arrowstyle": "-", "linewidth": 0.6, "shrinkB": 3, "relpos": (0, 0.5)}
    for end, height in zip(kept, spread(wanted, line), strict=True):
        axes.annotate(
            end.label,
            (end.x, end.y),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            parse_math=False,
            annotation_clip=False,
            arrowprops=look | {"color": end.colour},
        )


def spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Heights in the order of the wanted ones, near to them, and at least so far apart.

    Neighbours that are too near are a block about the mean of what they want; blocks that meet are
    one.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[list[int]] = []
    middles: list[float] = []
    for i in order:
        block, middle = [i], wanted[i]
        while blocks and middle - middles[-1] < apart * (len(block) + len(blocks[-1])) / 2:
            block = blocks.pop() + block
            middles.pop()
            middle = sum(wanted[j] for j in block) / len(block)
        blocks.append(block)
        middles.append(middle)
    heights = [0.0] * len(wanted)
    for block, middle in zip(blocks, middles, strict=True):
        for place, i in enumerate(block):
            heights[i] = middle + apart * (place - (len(block) - 1) / 2)
    return heights
