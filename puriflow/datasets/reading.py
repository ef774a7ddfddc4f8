"""One image file to pixels: the resize and centre crop that ImageNet classifiers expect."""

from pathlib import Path

import numpy as np
from PIL import Image

from puriflow.errors import UserError
from puriflow.options import Interpolation

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def read_image(
    file: Path,
    *,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> np.ndarray:
    """Read an image as RGB bytes (3, H, W).

    Args:
        file: anything that Pillow reads.
        resize: length of the short side, aspect kept (rounding as torchvision's Resize).
        crop: side of the centre crop.
        interpolation: `bicubic` or `bilinear`, Pillow's antialiased filters.

    Raises:
        UserError: the file cannot be read, or is smaller than the crop.
    """
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"image {file} cannot be read: {error}") from None
    width, height = image.size
    if resize is not None:
        short = min(width, height)
        width, height = int(resize * width / short), int(resize * height / short)
        image = image.resize((width, height), FILTERS[interpolation])
    if crop is not None:
        if min(width, height) < crop:
            raise UserError(f"image {file} is {width}x{height}, smaller than the crop of {crop}")
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)
