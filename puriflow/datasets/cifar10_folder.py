"""CIFAR-10 as a folder of image files: `root/<class>/<any name>`, from `airplane` to `truck`."""

from pathlib import Path

import numpy as np

from puriflow.datasets.names import CIFAR10
from puriflow.datasets.reading import labelled_files, read_image
from puriflow.datasets.samples import Samples, fingerprint_of
from puriflow.errors import UserError
from puriflow.options import Text

SHAPE = (3, 32, 32)


def build(*, root: Text) -> Samples:
    """All images below `root`, sorted by class and name, PNG or JPEG as they are.

    The published images are lossless (kind `cifar10`); JPEG makes others of them.
    """
    files, labels = labelled_files(root, CIFAR10, "class")
    return Samples(
        labels=labels, read=lambda i: _image(files[i]), fingerprint=fingerprint_of(files)
    )


def _image(file: Path) -> np.ndarray:
    """One image; a UserError if it has another size than CIFAR-10's."""
    image = read_image(file)
    if image.shape != SHAPE:
        _, height, width = image.shape
        raise UserError(f"image {file} is {width}x{height}, but CIFAR-10's are 32x32")
    return image
