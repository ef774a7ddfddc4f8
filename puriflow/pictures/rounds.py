"""Figure 6: what rounds of super-resolution do to errors, cross-entropy and accuracies."""

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from puriflow.measuring import accuracy, measure
from puriflow.pictures.figure import Rounds
from puriflow.pictures.sources import Sources


def build(figure: Rounds, sources: Sources) -> tuple[list[dict[str, Any]], plt.Figure]:
    """The CSV's rows, one for each line, and the drawing.

    Mean squared error and cross-entropy are of attacked images: the error to the clean ones, on
    [0, 1], the cross-entropy in nats. Accuracies have 95 % Wilson intervals.
    """
    rows = []
    for line in sources.lines:
        clean, attacked = (measure(c, sources.shards, sources.open) for c in figure.both(line))
        row = {**sources.described(line), "n": len(attacked.right["first"])}
        row |= {"mse": attacked.mse, "cross_entropy": attacked.cross_entropy}
        for name, found in (("standard", clean), ("robust", attacked)):
            names = (name, f"{name}_low", f"{name}_high")
            row |= zip(names, accuracy(found.right["first"]), strict=True)
        rows.append(row | {"note": sources.note(line)})
    return rows, draw(pd.DataFrame(rows))


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Above, error and cross-entropy on two axes; below, the two accuracies."""
    drawn, (above, below) = plt.subplots(2, 1, figsize=(3.25, 3.6), sharex=True)
    beside = above.twinx()
    beside.spines["right"].set_visible(True)
    axes = {"mse": above, "cross_entropy": beside}
    colours = {"mse": "#0072B2", "cross_entropy": "#D55E00"}
    names = {"mse": "mean squared error", "cross_entropy": "cross-entropy (nats)"}
    for column, marker in (("mse", "s"), ("cross_entropy", "D")):
        place, colour = axes[column], colours[column]
        place.plot(frame["line"], frame[column], color=colour, marker=marker)
        place.set_ylabel(names[column], color=colour)
        place.tick_params(axis="y", colors=colour)
        place.set_ylim(bottom=0)
        place.ticklabel_format(axis="y", scilimits=(-2, 3))
    above.set_title("attacked images")
    for column, shift in (("standard", -0.05), ("robust", 0.05)):
        bounds = [frame[column] - frame[f"{column}_low"], frame[f"{column}_high"] - frame[column]]
        x = [i + shift for i in range(len(frame))]
        below.errorbar(x, frame[column], yerr=bounds, label=column, elinewidth=0.6, capsize=2)
    below.set_ylim(0, 100)
    below.set_ylabel("accuracy (%)")
    below.set_xlabel(f"{frame['n'].iloc[0]} images, 95 % Wilson intervals")
    drawn.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn
