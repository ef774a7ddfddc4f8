"""Folders of image files, and one of them to pixels.

An image is resized and cropped in the centre as ImageNet classifiers expect. Its colours are what
Pillow's `convert("RGB")` makes of them, as in torchvision's ImageFolder: transparency is dropped,
of several frames the first is taken, and neither EXIF's rotation nor a colour profile is applied.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from puriflow.errors import UserError, on_disk, reading, unknown
from puriflow.options import Interpolation

# Pillow knows more formats, and has a few of them drawn by other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
LARGEST = 2**27  # pixels of a resized image
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Beside images, by operating systems, network storage and archives; others are hidden by a dot.
SYSTEMS = frozenset(
    (
        *("$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
        *("__macosx", "icon\r", "network trash folder", "temporary items", "lost+found"),
        *("@eadir", "@synoresource", "@tmp", "#recycle", "#snapshot", "@recycle"),
        *("@recently-snapshot", "__pycache__"),
    )
)


def is_systems(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's: no image, and no class."""
    return name.startswith(".") or name.casefold() in SYSTEMS


def visible(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without what is hidden or a system's."""
    with on_disk(folder):
        return sorted(path for path in folder.iterdir() if not is_systems(path.name))


def labelled_files(root: str, classes: Sequence[str], what: str) -> tuple[list[Path], list[int]]:
    """The files of `root/<class>/`, sorted by folder and name, and the place of each one's class.

    Folders may be there for some of the classes only. Every file in them is an image, whatever its
    suffix: one that is not is named when it is read.

    Args:
        root: the folder of the classes' folders.
        classes: their names, in the order of the labels.
        what: a class is called, in the words of an error.

    Raises:
        UserError: the folder is not there or has no image in it, or a folder in it is no class.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"image folder {folder} does not exist: name yours as the `root` of the data set, or "
            "put a link to it there"
        )
    known = {name: label for label, name in enumerate(classes)}
    files, labels = [], []
    for inner in filter(Path.is_dir, visible(folder)):
        if inner.name not in known:
            raise unknown(f"{what} (a folder in {folder})", inner.name, known)
        images = visible(inner)
        files += images
        labels += [known[inner.name]] * len(images)
    if not files:
        raise UserError(f"image folder {folder} has no <{what}>/<image> in it")
    return files, labels


@contextmanager
def open_picture(file: Path) -> Generator[Image.Image]:
    """An open picture file of at most 8 bits a channel, grey or in colours; not yet decoded.

    Raises:
        UserError: the file cannot be read, or has more bits, or signed ones, which Pillow would
            cut off or take for others.
    """
    with reading(file):
        if file.exists() and not file.is_file():
            raise UserError(f"{file} cannot be read: it is a folder, a pipe or a device")
        opened = Image.open(file, formats=FORMATS)
    with opened, reading(file):
        if deep(opened):
            raise UserError(f"{file} has more than 8 bits a channel, or signs; convert it first")
        if opened.mode not in MODES:
            raise UserError(f"{file} has colours of mode {opened.mode}; convert it to RGB first")
        yield opened


def deep(opened: Image.Image) -> bool:
    """Whether a channel has more than 8 bits, or signed ones; Pillow's mode may still be RGB."""
    if opened.mode.startswith(("I", "F")):
        return True
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        bits = opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        formats = opened.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        return max(bits) > 8 or set(formats) != {1}
    png = isinstance(opened, PngImagePlugin.PngImageFile)
    return png and any(";16" in str(tile[3]) for tile in opened.tile)


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
        return fitted(opened, f"image {file}", resize, crop, interpolation)


def fitted(
    picture: Image.Image,
    what: str,
    resize: int | None,
    crop: int | None,
    interpolation: Interpolation,
) -> np.ndarray:
    """A picture as RGB bytes (3, H, W), resized and cropped; see `read_image`."""
    image = picture.convert("RGB")
    width, height = image.size
    if resize is not None:
        short = min(width, height)
        width, height = int(resize * width / short), int(resize * height / short)
        if width * height > LARGEST:
            raise UserError(f"{what} would be resized to {width}x{height}: too large")
        image = image.resize((width, height), FILTERS[interpolation])
    if crop is not None:
        if min(width, height) < crop:
            raise UserError(f"{what} is {width}x{height}, smaller than the crop of {crop}")
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray(image).transpose(2, 0, 1)
