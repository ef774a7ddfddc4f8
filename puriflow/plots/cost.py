"""Robust accuracy against what an image costs: which defences are worth their seconds."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from puriflow.plots.colours import AIDE, ROBUST, STANDARD
from puriflow.plots.style import labelled, titled

TRAINED = "AT"  # the type of rows of adversarially trained classifiers alone


def draw(frame: pd.DataFrame, title: str) -> plt.Figure:
    """A point for each row, numbered; the Pareto line; the best adversarially trained row's level.

    Where an attack failed there is a cross, and a ring where attacks were others than those of most
    rows: these count for neither.

    Args:
        frame: a row each: method, type, n, attack, seconds_per_image, robust with its bounds in
            percent; NaN where there is no value; and whether an attack failed (`attack_failed`).
        title: above the picture.
    """
    rows = frame[frame["seconds_per_image"].notna() & frame["robust"].notna()]
    seconds, robust = rows["seconds_per_image"].to_numpy(), rows["robust"].to_numpy()
    points = [*zip(seconds, robust, strict=True)]
    half = -(-len(rows) // 2)
    heights = [4, 0.2 + 0.18 * half]
    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(7, sum(heights) - 0.3), height_ratios=heights
    )
    bounds = [robust - rows["robust_low"], rows["robust_high"] - robust]
    axes.errorbar(seconds, robust, yerr=bounds, fmt="none", ecolor=AIDE, elinewidth=0.5)
    failed, other = rows["attack_failed"].notna().to_numpy(), under_others(rows["attack"])
    held = ~failed & ~other
    axes.plot(seconds[held], robust[held], "o", color=ROBUST)
    if failed.any():
        axes.plot(seconds[failed], robust[failed], "x", color=AIDE, label="an attack failed")
    if (ring := other & ~failed).any():
        style = {"color": ROBUST, "markerfacecolor": "none", "label": "under other attacks"}
        axes.plot(seconds[ring], robust[ring], "o", **style)
    for number, (point, level) in enumerate(zip(points, levels(points), strict=True), start=1):
        offset = (3, 3 + 8 * level)
        axes.annotate(f"{number}", point, offset, textcoords="offset points", fontsize=8)
    best = pareto(seconds[held], robust[held])
    line = seconds[held][best], robust[held][best]
    axes.step(*line, where="post", color=ROBUST, label="Pareto line")
    trained = rows[held & (rows["type"] == TRAINED)]["robust"]
    if len(trained):
        axes.axhline(trained.max(), color=STANDARD, linestyle="--", label="adversarial training")
    axes.set_xscale("log")
    axes.set_ylim(-2, 100)
    axes.set_xlabel("seconds an image")
    axes.set_ylabel("robust accuracy (%), 95 % Wilson intervals")
    titled(figure, title)
    axes.legend(loc="upper left")
    names = [f"{number} {name}" for number, name in enumerate(labelled(rows, "method"), start=1)]
    below.set_axis_off()
    for x, some in ((0, names[:half]), (0.5, names[half:])):
        below.text(x, 1, "\n".join(some), va="top", fontsize=8, transform=below.transAxes)
    return figure


def under_others(attacks: pd.Series) -> np.ndarray:
    """Which rows were attacked otherwise than most of them."""
    return (attacks != attacks.mode().iloc[0]).to_numpy() if len(attacks) else np.zeros(0, bool)


def levels(points: list[tuple[float, float]]) -> list[int]:
    """How many lines above its point a number stands, so that none covers another's."""
    placed: list[tuple[float, float]] = []  # in decades and percent
    found = []
    for x, y in points:
        level, decades = 0, np.log10(x)
        while any(abs(decades - a) < 0.09 and abs(y + 4 * level - b) < 4 for a, b in placed):
            level += 1
        placed.append((decades, y + 4 * level))
        found.append(level)
    return found


def pareto(seconds: np.ndarray, robust: np.ndarray) -> list[int]:
    """The places of what nothing beats that costs no more, by their cost."""
    found: list[int] = []
    for place in np.lexsort((-robust, seconds)):
        if not found or robust[place] > robust[found[-1]]:
            found.append(int(place))
    return found
