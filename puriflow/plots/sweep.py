"""The CSV and the picture of a sweep: its numbers along one of the roles, or of their options."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from puriflow.plots.style import save, styled
from puriflow.results.sweep import COLUMNS, Sweep

PANELS = {
    "standard": "standard accuracy (%)",
    "robust": "robust accuracy (%)",
    "cross_entropy_attacked": "cross-entropy, attacked (nats)",
}


def write_sweep(sweep: Sweep, lines: list[dict], out: Path, pictures: Sequence[Path]) -> None:
    """Write a sweep's CSV, and draw it.

    Args:
        sweep: what.
        lines: see `sweeps.build_sweep`.
        out: the CSV.
        pictures: .png and .svg files.
    """
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).astype({"n": "Int64"})
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out, index=False)
    with styled():
        save(draw(sweep, frame.dropna(subset="metric")), pictures)


def draw(sweep: Sweep, frame: pd.DataFrame) -> plt.Figure:
    """A panel for each of `PANELS`; a line for each combination of what does not lie along it."""
    along = sweep.along.partition(".")[0]
    others = [kind for kind in sweep.varied if kind != along]
    figure, places = plt.subplots(3, 1, figsize=(3.25, 4.8), sharex=True)
    for axes, (metric, name) in zip(places, PANELS.items(), strict=True):
        rows = frame[frame["metric"] == metric]
        for line, here in rows.groupby(others, sort=False) if others else [((), rows)]:
            _line(axes, here, ", ".join(line))
        axes.set_ylabel(name)
        axes.set_ylim(*((0, 100) if metric != "cross_entropy_attacked" else (0, None)))
    n = "" if frame.empty else f"; {frame['n'].iloc[0]} images, 95 % intervals"
    places[-1].set_xlabel(f"{sweep.along}{n}")
    if not is_numeric_dtype(frame["along"]):
        plt.setp(places[-1].get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    if others:
        handles = places[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=2)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """One combination along the picture, with its intervals."""
    bounds = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    style = {"elinewidth": 0.6, "capsize": 2}
    if not is_numeric_dtype(rows["along"]):
        style["linestyle"] = ""  # there is nothing between two names
    axes.errorbar(rows["along"], rows["value"], yerr=bounds, label=label, **style)
