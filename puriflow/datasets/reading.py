"""One image file to pixels: the resize and centre crop that ImageNet classifiers expect."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from puriflow.errors import UserError, reading
from puriflow.options import Interpolation

# Pillow knows more formats, and has a few of them drawn by other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
LARGEST = 2**27  # pixels of a resized image
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@contextmanager
def open_picture(file: Path) -> Generator[Image.Image]:
    """An open picture file of at most 8 bits a channel, grey or in colours; not yet decoded.

    Raises:
        UserError: the file cannot be read, or has more bits, which Pillow would cut off.
    """
    with reading(file):
        if file.exists() and not file.is_file():
            raise UserError(f"{file} cannot be read: it is a folder, a pipe or a device")
        opened = Image.open(file, formats=FORMATS)
    with opened, reading(file):
        deep = opened.format in ("PNG", "TIFF") and any(";16" in str(t[3]) for t in opened.tile)
        if deep or opened.mode.startswith(("I", "F")):
            raise UserError(f"{file} has more than 8 bits a channel; convert it to 8 first")
        if opened.mode not in MODES:
            raise UserError(f"{file} has colours of mode {opened.mode}; convert it to RGB first")
        yield opened


def read_image(
    file: Path,
    *,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """Read an image as RGB bytes (3, H, W).

    Args:
        file: BMP, GIF, JPEG, PNG, TIFF or WebP, of 8 bits a channel; the ending does not count.
        resize: length of the short side, aspect kept (rounding as torchvision's Resize).
        crop: side of the centre crop.
        interpolation: `bicubic` or `bilinear`, Pillow's antialiased filters.

    Raises:
        UserError: the file cannot be read, is smaller than the crop, or far longer than wide.
    """
    with open_picture(file) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    if resize is not None:
        short = min(width, height)
        width, height = int(resize * width / short), int(resize * height / short)
        if width * height > LARGEST:
            raise UserError(f"image {file} would be resized to {width}x{height}: too large")
        image = image.resize((width, height), FILTERS[interpolation])
    if crop is not None:
        if min(width, height) < crop:
            raise UserError(f"image {file} is {width}x{height}, smaller than the crop of {crop}")
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)
