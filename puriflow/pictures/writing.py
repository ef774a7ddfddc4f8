"""A figure's CSV, the values of its images, and its pictures, whatever its kind."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt

from puriflow.pictures.built import COLUMNS, Built
from puriflow.pictures.figure import Figure, Named, unavailable
from puriflow.pictures.sources import Sources
from puriflow.pictures.style import save, styled


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
        out: the CSV; numbers have six digits.
        measures: the CSV of `built.COLUMNS`, a row for each value of an image.
        pictures: .png and .svg files.
        device: to compute on.

    Raises:
        Problem: a store or a part is not as it should be.
    """
    reasons = {line: unavailable(figure, line, named) for line in figure.lines}
    lost = {line: reason for line, reason in reasons.items() if reason is not None}
    with styled():
        found = build(figure, Sources(figure, named, results, device))
        rows = [{"line": line.label, "note": reason} for line, reason in lost.items()]
        values = [
            {"line": name, "note": reason}
            for line, reason in lost.items()
            for name in figure.names(line)
        ]
        long = pd.DataFrame([*found.values, *values], columns=list(COLUMNS))
        tables = {
            out: pd.DataFrame([*found.rows, *rows]),
            measures: long.astype({"index": "Int64"}),
        }
        for file, table in tables.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(file, index=False, float_format="%.6g")
        save(found.drawn, pictures)


def build(figure: Figure, sources: Sources) -> Built:
    """What the figure's kind makes of it; without a line that is served, a few words."""
    if sources.lines:
        return importlib.import_module(f"puriflow.pictures.{figure.kind}").build(figure, sources)
    drawn = plt.figure(figsize=(3.25, 1))
    drawn.text(0.02, 0.5, "not served by this track: see the CSV", va="center")
    return Built([], [], drawn)
