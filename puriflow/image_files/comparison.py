"""A sheet of images before and after purification, with what a classifier makes of them.

Both are read from the files, so that the sheet shows, and the classifier sees, what was written.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.nn import functional as F

from puriflow.datasets.names import class_names
from puriflow.errors import UserError, printable
from puriflow.fitting import check_finite
from puriflow.image_files.formats import open_images
from puriflow.image_files.inputs import ImageFile
from puriflow.plots.colours import RIGHT, WRONG
from puriflow.plots.sheets import difference
from puriflow.registry import Part

log = logging.getLogger(__name__)
ROWS = 12
LONGEST = 4  # times the short side, of what the classifier is shown
COLUMNS = ("before", "after", "after less before")
SIDE, LINE, GAP = 224, 22, 6  # pixels of an image, of a line of text, and between them
# Classes of a classifier: the side of its images, where it does not say it, and the short side to
# which they are resized first, as a multiple.
SIZES = {1000: (224, 8 / 7), 10: (32, 1)}


class ImageClassifier:
    """A classifier of images of any size, which gives the name of the class.

    Where it does not say whose classes it knows, they have numbers. Of 1000 classes or 10, as
    ImageNet-1k and CIFAR-10 have, it is known how they see images, others are refused; the images
    are brought to the classifier's own size, those of that size being left alone.
    """

    def __init__(self, part: Part, device: torch.device):
        self.device, self.name = device, part.name
        self.classifier = part.build().to(device)
        layers = [m for m in self.classifier.modules() if isinstance(m, nn.Linear)]
        classes = layers[-1].out_features if layers else 0
        if classes not in SIZES:
            raise UserError(
                f"classifier {part.name} is neither of ImageNet's classes nor of CIFAR-10's"
            )
        usual, margin = SIZES[classes]
        self.crop = getattr(self.classifier, "size", usual)
        self.resize = round(self.crop * margin)
        self.names = class_names(classes, getattr(self.classifier, "dataset", None))

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[str, float]:
        """The class of an image (3, H, W) in [0, 1], and the probability that is given to it."""
        logits = self.classifier(self.resized(torch.from_numpy(image)[None].to(self.device)))
        check_finite(logits, f"classifier {self.name}: logits")
        confidence, label = logits.softmax(1)[0].max(0)
        return self.names[int(label)], float(confidence)

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Resized on the short side (bicubic, antialiased) and cropped in the middle.

        An image that is longer than four times its short side is first cut to that in the middle:
        the ends are cropped anyway, and resized they could fill the memory.
        """
        height, width = images.shape[-2:]
        if height == width == self.crop:
            return images
        short = min(height, width)
        images = center_crop(images, LONGEST * short)
        height, width = images.shape[-2:]
        size = (self.resize * height // short, self.resize * width // short)
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return center_crop(images, self.crop)


def center_crop(images: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of images (..., H, W), at most `side` pixels high and wide."""
    top, left = (max(round((length - side) / 2), 0) for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def pairs(files: Sequence[ImageFile], out: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The name of every image, the image (3, H, W) in [0, 1], and the same purified."""
    for file in files:
        before, after = open_images(file.path).array, open_images(out / file.output).array
        for i in range(file.layout.count):
            name = str(file.output) + (f" [{i}]" if file.layout.count > 1 else "")
            yield name, file.layout.read(before, i, i + 1)[0], file.layout.read(after, i, i + 1)[0]


def draw_sheet(
    files: Sequence[ImageFile], out: Path, to: Path, classifier: ImageClassifier | None
) -> None:
    """Draw the first images before, after, and their difference, as a PNG; print the predictions.

    The results of all files must be in the folder `out`.
    """
    total = sum(file.layout.count for file in files)
    shown = min(total, ROWS)
    height = LINE + shown * (LINE + SIDE + (LINE if classifier else 0) + GAP)
    sheet = Image.new("RGB", (GAP + len(COLUMNS) * (SIDE + GAP), height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        write(pen, column, LINE / 2, title)
    top = LINE
    for name, before, after in islice(pairs(files, out), shown):
        change, gain = difference(before, after)
        enlarged = f"x {gain} about grey" if (before != after).any() else "none"
        write(pen, 0, top + LINE / 2, name, width=len(COLUMNS) - 1, colour="#555555")
        write(pen, len(COLUMNS) - 1, top + LINE / 2, enlarged, colour="#555555")
        top += LINE
        for column, image in enumerate((before, after, change)):
            sheet.paste(framed(image), (GAP + column * (SIDE + GAP), top))
        top += SIDE
        if classifier is not None:
            print(printable(f"{name}: {answers(pen, classifier, before, after, top)}"))
            top += LINE
        top += GAP
    if shown < total:
        log.info(f"the sheet shows the first {shown} of {total} images")
    sheet.save(to, format="PNG")


def answers(
    pen: ImageDraw.ImageDraw,
    classifier: ImageClassifier,
    before: np.ndarray,
    after: np.ndarray,
    top: int,
) -> str:
    """Write below a row what a classifier sees before and after, and whether that is another class.

    Returns:
        Both answers.
    """
    predictions = [classifier(image) for image in (before, after)]
    texts = [f"{label}, {100 * confidence:.0f} %" for label, confidence in predictions]
    for column, text in enumerate(texts):
        write(pen, column, top + LINE / 2, text)
    changed = predictions[0][0] != predictions[1][0]
    words, colour = ("another class than before", WRONG) if changed else ("the same class", RIGHT)
    if changed:
        left = GAP + SIDE + GAP
        pen.rectangle((left, top - SIDE, left + SIDE - 1, top - 1), outline=colour, width=4)
    write(pen, 2, top + LINE / 2, words, colour=colour)
    return " -> ".join(texts)


def framed(image: np.ndarray) -> Image.Image:
    """An image (3, H, W) on [0, 1] in the middle of a grey square; small ones grow by pixels."""
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (SIDE, SIDE), "#dddddd")
    place = (SIDE - width) // 2, (SIDE - height) // 2
    square.paste(picture.resize((width, height), filter_), place)
    return square


def write(
    pen: ImageDraw.ImageDraw,
    column: int,
    middle: float,
    text: str,
    *,
    width: int = 1,
    colour: str = "black",
) -> None:
    """Write a line at the left of a column, cut to the room of `width` columns."""
    font = ImageFont.load_default(size=13)
    room = width * (SIDE + GAP) - GAP
    if font.getlength(text) > room:
        while text and font.getlength(text + "...") > room:
            text = text[:-1]
        text += "..."
    pen.text((GAP + column * (SIDE + GAP), middle), text, fill=colour, anchor="lm", font=font)
