"""Contact sheets: many small images in rows."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from puriflow.atomic import Replacing


def contact_sheet(
    rows: Iterable[tuple[str, np.ndarray]], out: Path, *, side: int = 112, margin: int = 130
) -> None:
    """Draw rows of images with their names.

    Args:
        rows: (name, images (n, 3, H, W) on [0, 1]; values outside are clipped).
        out: a PNG file.
        side: of a thumbnail, in pixels.
        margin: room for the names, in pixels; 0 for none.
    """
    lines = [(name, [thumbnail(image, side) for image in images]) for name, images in rows]
    columns = max(len(images) for _, images in lines)
    gap = 2
    size = (margin + columns * (side + gap), len(lines) * (side + gap))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(lines):
        top = row * (side + gap)
        if margin:
            pen.text((6, top + side / 2), name, fill="black", anchor="lm", font_size=13)
        for column, image in enumerate(images):
            sheet.paste(image, (margin + column * (side + gap), top))
    out.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(out) as temporary:
        sheet.save(temporary, format="PNG")


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
