"""A figure's CSV and its pictures, whatever its kind."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt

from puriflow.pictures.figure import Figure, Named, unavailable
from puriflow.pictures.sources import Sources
from puriflow.pictures.style import save, styled


def write_figure(
    figure: Figure,
    named: Named,
    results: Path,
    out: Path,
    pictures: Sequence[Path],
    device: torch.device,
) -> None:
    """Write the CSV behind a figure, and draw it.

    Args:
        figure: what.
        named: see `figure.served`.
        results: where the stores are.
        out: the CSV; numbers have six digits.
        pictures: .png and .svg files.
        device: to compute on.

    Raises:
        Problem: a store or a part is not as it should be.
    """
    sources = Sources(figure, named, results, device)
    left_out = [
        {"line": line.label, "note": reason}
        for line in figure.lines
        if (reason := unavailable(figure, line, named)) is not None
    ]
    with styled():
        rows: list[dict] = []
        if sources.lines:
            module = importlib.import_module(f"puriflow.pictures.{figure.kind}")
            rows, drawn = module.build(figure, sources)
        else:
            drawn = plt.figure(figsize=(3.25, 1))
            drawn.text(0.02, 0.5, "not served by this track: see the CSV", va="center")
        out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([*rows, *left_out]).to_csv(out, index=False, float_format="%.6g")
        save(drawn, pictures)
