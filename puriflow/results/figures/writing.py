"""A figure's CSV, the values of its images, and its pictures, whatever its kind."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt

from puriflow.plots.style import save, styled
from puriflow.results.figures.base import Figure, Named, unavailable
from puriflow.results.figures.built import COLUMNS, Built
from puriflow.results.figures.sources import Sources


def write_figure(
    figure: Figure,
    named: Named,
    results: Path,
    out: Path,
    measures: Path,
    pictures: Sequence[Path],
    device: torch.device,
) -> None:
    """Write the CSV behind a figure and the values of its images, and draw it.

    Args:
        figure: what.
        named: see `figure.served`.
        results: where the stores are.
        out: the CSV.
        measures: the CSV of `built.COLUMNS`, a row for each value of an image.
        pictures: .png and .svg files.
        device: to compute on.

    Raises:
        UserError: a store or a part is not as it should be.
    """
    reasons = {line: unavailable(figure, line, named) for line in figure.lines}
    lost = {line: {"note": reason} for line, reason in reasons.items() if reason is not None}
    with styled():
        found = build(figure, Sources(figure, named, results, device))
        rows = [*found.rows, *({"line": line.label} | said for line, said in lost.items())]
        names = [(name, said) for line, said in lost.items() for name in figure.names(line)]
        values = [*found.values, *({"line": name} | said for name, said in names)]
        write(pd.DataFrame(rows), out)
        write(pd.DataFrame(values, columns=list(COLUMNS)).astype({"index": "Int64"}), measures)
        save(found.drawn, pictures)


def write(table: pd.DataFrame, out: Path) -> None:
    """Write a CSV, whose numbers have six digits."""
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False, float_format="%.6g")


def build(figure: Figure, sources: Sources) -> Built:
    """What the figure's kind makes of it; without a line that is served, a few words."""
    if sources.lines:
        return importlib.import_module(f"puriflow.results.figures.{figure.kind}").build(
            figure, sources
        )
    drawn = plt.figure(figsize=(3.25, 1))
    drawn.text(0.02, 0.5, "not served by this track: see the CSV", va="center")
    return Built([], [], drawn)
