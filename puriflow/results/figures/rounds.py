"""Figure 6: what rounds of super-resolution do to errors, cross-entropy and accuracies."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from puriflow.metrics.paired import student_interval
from puriflow.plots.style import CROSS_ENTROPY, ROBUST, SQUARED_ERROR, STANDARD
from puriflow.results.figures.base import Rounds
from puriflow.results.figures.built import Built, values_of
from puriflow.results.figures.sources import Sources
from puriflow.results.measures import accuracy, measure


def build(figure: Rounds, sources: Sources) -> Built:
    """Rows of the CSV are one for each line.

    Mean squared error and cross-entropy are of attacked images: the error to the clean ones, on
    [0, 1], the cross-entropy in nats, both with Student's 95 % intervals over images. Accuracies
    have 95 % Wilson intervals.
    """
    rows, values = [], []
    for line in sources.lines:
        clean, attacked = (measure(c, sources.shards, sources.open) for c in figure.both(line))
        found = {"mse": attacked.errors, "cross_entropy": attacked.losses}
        answers = {"standard": clean.right["first"], "robust": attacked.right["first"]}
        row = {**sources.described(line), "n": len(attacked.losses)}
        for name, single in found.items():
            row |= _columns(name, (single.mean(), *student_interval(single)))
        for name, right in answers.items():
            row |= _columns(name, accuracy(right))
        rows.append(row | {"note": sources.note(line)})
        for name, single in (found | answers).items():
            values += values_of(line.label, name, sources.indices, single)
    return Built(rows, values, draw(pd.DataFrame(rows)))


def _columns(name: str, bounded: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), bounded, strict=True))


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Above, error and cross-entropy on two axes; below, the two accuracies."""
    drawn, (above, below) = plt.subplots(2, 1, figsize=(3.25, 3.6), sharex=True)
    beside = above.twinx()
    beside.spines["right"].set_visible(True)
    _line(above, frame, "mse", -0.05, color=SQUARED_ERROR, marker="s")
    _line(beside, frame, "cross_entropy", 0.05, color=CROSS_ENTROPY, marker="D")
    above.set_ylabel("mean squared error", color=SQUARED_ERROR)
    beside.set_ylabel("cross-entropy (nats)", color=CROSS_ENTROPY)
    for axes, colour in ((above, SQUARED_ERROR), (beside, CROSS_ENTROPY)):
        axes.tick_params(axis="y", colors=colour)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    above.set_title("attacked images")
    _line(below, frame, "standard", -0.05, color=STANDARD, marker="o")
    _line(below, frame, "robust", 0.05, color=ROBUST, marker="^")
    below.set_ylim(0, 100)
    below.set_xticks(range(len(frame)), frame["line"])
    below.set_ylabel("accuracy (%)")
    below.set_xlabel(f"{frame['n'].iloc[0]} images, 95 % intervals")
    drawn.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn


def _line(axes: Axes, frame: pd.DataFrame, column: str, shift: float, **look: str) -> None:
    """A column with its intervals; markers at the axes' ends are whole."""
    bounds = [frame[column] - frame[f"{column}_low"], frame[f"{column}_high"] - frame[column]]
    x = [i + shift for i in range(len(frame))]
    shared = {"elinewidth": 0.6, "capsize": 2, "clip_on": False, "zorder": 3}
    axes.errorbar(x, frame[column], yerr=bounds, label=column, **shared, **look)
