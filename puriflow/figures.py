"""Pictures of results: a table's bars beside the paper's, training curves, and contact sheets."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from puriflow.results import TABLE, read_csv

STANDARD, ROBUST, PAPER = "#0072B2", "#D55E00", "#222222"  # Okabe and Ito, colour-blind safe


def plot_table(csv: Path, title: str, out: Path) -> None:
    """Draw a table's standard and robust accuracy with intervals, and the paper's values.

    Args:
        csv: a table of this project.
        title: above the picture.
        out: .png or .svg.

    Raises:
        Problem: the CSV is missing, or is no table's.
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = read_csv(csv, TABLE)
    places = np.arange(len(rows))[::-1]
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.5 * len(rows)), layout="constrained")
    for column, colour, shift in (("standard", STANDARD, 0.2), ("robust", ROBUST, -0.2)):
        values = rows[column]
        bounds = [values - rows[f"{column}_low"], rows[f"{column}_high"] - values]
        axes.barh(places + shift, values, 0.38, color=colour, label=f"{column}, ours")
        style = {"fmt": "none", "ecolor": "#777777", "elinewidth": 1, "capsize": 2}
        axes.errorbar(values, places + shift, xerr=bounds, **style)
        axes.scatter(
            rows[f"paper_{column}"],
            places + shift,
            marker="D",
            s=18,
            facecolor="white",
            edgecolor=PAPER,
            zorder=3,
            clip_on=False,
            label="paper" if column == "robust" else None,
        )
    axes.set_yticks(places, rows["method"])
    axes.set_xlim(0, 100)
    counted = rows["n"].dropna()
    count = f", n = {int(counted.iloc[0])}, 95 % Wilson intervals" if len(counted) else ""
    axes.set_xlabel(f"accuracy (%){count}")
    axes.set_title(title, fontsize=10, loc="left", wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def plot_curve(log: Path, title: str, out: Path) -> None:
    """Draw the loss of a training run by step, from its log of JSON lines."""
    import matplotlib
    import pandas as pd

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = pd.read_json(log, lines=True)
    figure, axes = plt.subplots(figsize=(4.5, 2.6), layout="constrained")
    axes.plot(rows["step"], rows["loss"], color=STANDARD, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean of 100 steps")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=100)
    plt.close(figure)


def contact_sheet(
    rows: Iterable[tuple[str, np.ndarray]], out: Path, *, side: int = 112, margin: int = 130
) -> None:
    """Draw rows of images with their names.

    Args:
        rows: (name, images (n, 3, H, W) on [0, 1]; values outside are clipped).
        out: a picture file.
        side: of a thumbnail, in pixels.
        margin: room for the names, in pixels; 0 for none.
    """
    drawn = [(name, [thumbnail(image, side) for image in images]) for name, images in rows]
    columns = max(len(images) for _, images in drawn)
    gap = 2
    size = (margin + columns * (side + gap), len(drawn) * (side + gap))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(drawn):
        top = row * (side + gap)
        if margin:
            pen.text((6, top + side / 2), name, fill="black", anchor="lm", font_size=13)
        for column, image in enumerate(images):
            sheet.paste(image, (margin + column * (side + gap), top))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def grid(images: np.ndarray, out: Path, *, columns: int = 10, side: int = 128) -> None:
    """Draw images (n, 3, H, W) on [0, 1] as a grid."""
    columns = min(columns, len(images))
    lines = [
        images[i * columns : (i + 1) * columns] for i in range(math.ceil(len(images) / columns))
    ]
    contact_sheet([("", line) for line in lines], out, side=side, margin=0)


def thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """One image (3, H, W) on [0, 1] as an 8-bit picture; small images are enlarged by pixels."""
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(pixels)
    small = max(picture.size) < side
    filter_ = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((side, side), filter_)
