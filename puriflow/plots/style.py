"""The look of all figures: style.mplstyle, their titles, and what several of them draw."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.atomic import Replacing

STYLE = Path(__file__).with_name("style.mplstyle")


@contextmanager
def styled(text: float = 7) -> Generator[None]:
    """Within it, figures have their look, and need no display.

    Args:
        text: points. 7 are for a figure of one column; one that is wider takes more.
    """
    matplotlib.use("agg")
    with plt.style.context([STYLE, {"font.size": text}]):
        yield


def looks() -> Iterator[dict[str, Any]]:
    """How lines look, 21 of them each in its own way: then hollow and dashed, then dotted."""
    for dashes, hollow in cycle([("-", False), ("--", True), (":", True)]):
        for look in plt.rcParams["axes.prop_cycle"]:
            empty = {"markerfacecolor": "white"} if hollow else {}
            yield {**look, "linestyle": dashes, **empty}


def picture(axes: Axes, image: np.ndarray) -> None:
    """An image (3, H, W) on [0, 1], without axes; values outside are clipped."""
    axes.imshow(image.clip(0, 1).transpose(1, 2, 0))
    bare(axes)


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def labelled(frame: pd.DataFrame, name: str) -> list[str]:
    """The labels of rows, which say so where an attack failed (`attack_failed`)."""
    failed = frame["attack_failed"].notna()
    return [
        f"{label}\n(attack failed)" if bad else label
        for label, bad in zip(frame[name], failed, strict=True)
    ]


def titled(figure: plt.Figure, title: str) -> None:
    """Write a title above a figure, from its left edge; it grows by the lines that this takes."""
    size = plt.rcParams["font.size"]
    said = {"x": 0.01, "ha": "left", "fontsize": "medium", "parse_math": False}
    above = figure.suptitle("", **said)
    letters = int(figure.get_figwidth() * 72 / (0.48 * size))
    for room in range(letters, 9, -2):  # how many letters have room depends on the letters
        lines = [fill(line, room, break_on_hyphens=False) for line in title.splitlines() if line]
        above.set_text("\n".join(lines))
        if above.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
    count = 1 + above.get_text().count("\n")
    figure.set_figheight(figure.get_figheight() + 1.25 * size * count / 72)


def message(text: str) -> plt.Figure:
    """A line of text in place of a figure of one column."""
    figure = plt.figure(figsize=(3.25, 1))
    figure.text(0.02, 0.5, text, va="center")
    return figure


def save(figure: plt.Figure, pictures: Sequence[Path]) -> None:
    """Write a figure as each of `pictures`, .png or .svg, and close it."""
    for file in pictures:
        # without it, an SVG holds the time at which it was made
        metadata = {"Date": None} if file.suffix == ".svg" else None
        with Replacing(file) as temporary:
            figure.savefig(temporary, format=file.suffix[1:], metadata=metadata)
    plt.close(figure)
