"""Contact sheets: many small images in rows."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from puriflow.atomic import Replacing
from puriflow.plots.colours import RIGHT, WRONG

WORD_COLOURS = {"right": RIGHT, "fooled": WRONG, "wrong": WRONG}
FONT, LINE, GAP = 13, 18, 2  # pixels: of text, of a line; between tiles
NARROWEST = 640  # pixels of a sheet with a title


class Row(NamedTuple):
    """Images with their name.

    Attributes:
        name: at the left.
        images: (n, 3, H, W) on [0, 1]; values outside are clipped.
        words: what is said of each, of `WORD_COLOURS`; empty where nothing is.
    """

    name: str
    images: np.ndarray
    words: Sequence[str] = ()


def contact_sheet(
    rows: Iterable[Row],
    out: Path,
    *,
    side: int = 112,
    margin: int = 150,
    above: str = "",
    below: str = "",
) -> None:
    """Draw rows of images with their names.

    Args:
        rows: from top to bottom.
        out: a PNG file.
        side: of a thumbnail, in pixels.
        margin: room for the names, in pixels; 0 for none.
        above: lines of text.
        below: lines of text.
    """
    lines = [(row, [thumbnail(image, side) for image in row.images]) for row in rows]
    columns = max(len(images) for _, images in lines)
    width = max(margin + columns * (side + GAP), NARROWEST if above or below else 1)
    above, below = (_filled(text, width) for text in (above, below))
    tops = [_height(above) + row * (side + GAP) for row in range(len(lines) + 1)]
    sheet = Image.new("RGB", (width, tops[-1] + _height(below)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((6, _height(above) / 2), above, fill="black", anchor="lm", font_size=FONT)
    pen.text((6, tops[-1] + _height(below) / 2), below, fill="black", anchor="lm", font_size=FONT)
    for top, (row, images) in zip(tops, lines, strict=False):
        if margin:
            name = _filled(row.name, margin)
            pen.text((6, top + side / 2), name, fill="black", anchor="lm", font_size=FONT)
        for column, image in enumerate(images):
            sheet.paste(image, (margin + column * (side + GAP), top))
        for column, word in enumerate(row.words):
            _mark(pen, (margin + column * (side + GAP), top), side, word)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(out) as temporary:
        sheet.save(temporary, format="PNG")


def _filled(text: str, width: int) -> str:
    """A text in lines that a width in pixels has room for; the font has no no-break space."""
    font = ImageFont.load_default(size=FONT)
    filled, letters = text, max(width // 5, 1)
    while letters:  # how many have room depends on the letters
        lines = [fill(line, letters, break_on_hyphens=False) for line in text.splitlines()]
        filled = "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
        if all(font.getlength(line) <= width - 10 for line in filled.splitlines()):
            break
        letters -= 1
    return filled


def _height(text: str) -> int:
    """Pixels of lines of text, with room around them."""
    return LINE * (1 + text.count("\n")) + 10 if text else 0


def _mark(pen: ImageDraw.ImageDraw, place: tuple[int, int], side: int, word: str) -> None:
    """A frame about a thumbnail, with its word at the lower left."""
    if not word:
        return
    left, bottom = place[0], place[1] + side - 1
    colour = ImageColor.getrgb(WORD_COLOURS[word])
    pen.rectangle((left, place[1], left + side - 1, bottom), outline=colour, width=3)
    font = ImageFont.load_default(size=FONT)
    room = font.getlength(word) + 8
    pen.rectangle((left, bottom - LINE, left + room, bottom), fill=colour)
    pen.text((left + 4, bottom - LINE / 2), word, fill="white", anchor="lm", font=font)


def grid(images: np.ndarray, out: Path, *, columns: int = 10, side: int = 128) -> None:
    """Draw images (n, 3, H, W) on [0, 1] as a grid."""
    columns = min(columns, len(images))
    lines = [
        images[i * columns : (i + 1) * columns] for i in range(math.ceil(len(images) / columns))
    ]
    contact_sheet([Row("", line) for line in lines], out, side=side, margin=0)


def difference(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, int]:
    """How images differ: about mid-grey, where they do not, enlarged so that it can be seen.

    Args:
        before: (..., 3, H, W) on [0, 1].
        after: the same shape.

    Returns:
        The difference, and by how much it is enlarged: the power of two by which 99 in 100 of its
        values nearly fill [0, 1], from 1 to 128.
    """
    change = after - before
    most = float(np.quantile(np.abs(change), 0.99)) if change.size else 0.0
    gain = 2 ** int(np.clip(np.round(np.log2(0.5 / most)), 0, 7)) if most else 1
    return (0.5 + gain * change).clip(0, 1), gain


def thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """One image (3, H, W) on [0, 1] as an 8-bit picture; small images are enlarged by pixels."""
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(pixels)
    small = max(picture.size) < side
    filter_ = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((side, side), filter_)
