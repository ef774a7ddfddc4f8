"""Pictures of 8 bits a channel: PNG, JPEG, WebP, BMP, TIFF and GIF, written as PNG."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from puriflow.datasets.reading import open_picture
from puriflow.image_files.layout import Layout
from puriflow.image_files.open_file import OpenFile, check_memory

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
GREY = ("1", "L", "LA")
LONGEST_PROFILE = PngImagePlugin.MAX_TEXT_CHUNK  # bytes that Pillow would read again


def picture(path: Path) -> OpenFile:
    """A picture file: one image (H, W, 3), the right way up; saved as PNG."""
    with open_picture(path) as opened:
        size = 4 * opened.width * opened.height
        check_memory(path, 3 * size)  # as it is, the right way up, and as RGB
        notes = []
        if (frames := getattr(opened, "n_frames", 1)) > 1:
            notes.append(f"the first of its {frames} frames")
        if opened.getexif().get(0x0112, 1) != 1:
            notes.append("turned as its EXIF data say")
        image = ImageOps.exif_transpose(opened)
    grey, alpha, mode = image.mode in GREY, None, image.mode
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        notes.append("its alpha channel kept as it is")
    if grey:
        notes.append("grey: purified as RGB, written as grey")
    elif mode == "CMYK":
        notes.append("CMYK: written as RGB")
    profile = None if mode == "CMYK" else image.info.get("icc_profile")
    if profile and not (isinstance(profile, bytes) and len(profile) <= LONGEST_PROFILE):
        profile = None
        notes.append("its colour profile left out, which a PNG cannot have")

    def save(to: Path, layout: Layout, blocks: Iterable[np.ndarray]) -> None:
        (block,) = blocks
        result = Image.fromarray(block[0]).convert("L" if grey else "RGB")
        if alpha is not None:
            result.putalpha(alpha)
        result.save(to, format="PNG", icc_profile=profile)

    return OpenFile(np.asarray(image.convert("RGB")), save, size, tuple(notes))
