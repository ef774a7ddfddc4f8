"""The 20 sample images of ImageNet or CIFAR-10 in the foolbox wheel: the mini track's data sets.

The files are read from the installed package; foolbox itself is not imported. The label is the last
number of the file name.
"""

import re
from importlib.metadata import files
from pathlib import Path

from puriflow.datasets.reading import read_image
from puriflow.datasets.samples import Samples, fingerprint_of
from puriflow.errors import UserError
from puriflow.options import Interpolation, Side, Text

PACKAGE = "foolbox"


def build(
    *,
    sample: Text,
    resize: Side | None = None,
    crop: Side | None = None,
    interpolation: Interpolation = "bicubic",
) -> Samples:
    """The samples of `imagenet` or `cifar10`, resized and cropped as `read_image` does."""
    pattern = re.compile(rf"^foolbox/data/{re.escape(sample)}_\d+_(\d+)\.(?:jpg|png)$")
    found = [(match, file) for file in files(PACKAGE) or () if (match := pattern.match(str(file)))]
    if not found:
        raise UserError(
            f"foolbox has no samples of {sample!r}; it has imagenet and cifar10, for two"
        )
    found.sort(key=lambda pair: str(pair[1]))
    paths = [Path(file.locate()) for _, file in found]
    return Samples(
        labels=[int(match[1]) for match, _ in found],
        read=lambda i: read_image(paths[i], resize=resize, crop=crop, interpolation=interpolation),
        fingerprint=fingerprint_of(paths),
    )
