"""An ImageNet-style folder: `root/<wnid>/<any name>.JPEG`, one folder a class.

A label is the place of the folder's wnid among the sorted 1000 wnids of ImageNet-1k, so a folder
may hold any of the classes. The list of wnids is timm's.
"""

import importlib.util
from pathlib import Path

from puriflow.datasets.reading import labelled_files, read_image
from puriflow.datasets.samples import Samples, fingerprint_of
from puriflow.options import Interpolation, Side, Text

PACKAGE = "timm"


def wnids() -> list[str]:
    """The 1000 wnids of ImageNet-1k in the order of the labels (read without importing timm)."""
    spec = importlib.util.find_spec(PACKAGE)
    # pyrefly: ignore[missing-attribute]  # timm is required, and a package
    root = Path(spec.submodule_search_locations[0])
    return (root / "data" / "_info" / "imagenet_synsets.txt").read_text().split()


def build(
    *,
    root: Text,
    resize: Side | None = 256,
    crop: Side | None = 224,
    interpolation: Interpolation = "bilinear",
) -> Samples:
    """All images below `root`, sorted by folder and name, resized and cropped by `read_image`.

    By default as torchvision's classifiers, RobustBench and DiffPure have them.
    """
    files, labels = labelled_files(root, wnids(), "wnid")
    return Samples(
        labels=labels,
        read=lambda i: read_image(files[i], resize=resize, crop=crop, interpolation=interpolation),
        fingerprint=fingerprint_of(files),
    )
