"""Any map-style torch `Dataset`: torchvision's, Hugging Face's, or one of your own.

`object` is a class or function that is called with `arguments` and returns the data set. An item is
an image and a label, or a mapping with both; an image is a picture of Pillow, or a tensor or array
(3, H, W) of bytes or of floats in [0, 1], with one channel if it is grey. The fingerprint is made
of what is in the data set: of the files of torchvision's folders and of the encoded images of
Hugging Face's columns, which are not decoded for it, and else of all images and labels as they
come, which are read for it at each plan. A data set that says its `fingerprint` and `targets`
itself is believed. The code of `object` counts as a part's does, but for that of a library.
"""

import hashlib
import importlib
import operator
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.checksums import file_hash
from puriflow.datasets.reading import MODES, deep, fitted
from puriflow.datasets.samples import Samples, fingerprint_of
from puriflow.errors import UserError, theirs, unknown
from puriflow.options import Arguments, Interpolation, Object, Side, Text, shown
from puriflow.sources import file_of, no_module, top_of


def build(
    *,
    object: Object,
    arguments: Arguments | None = None,
    image: Text = "image",
    label: Text = "label",
    resize: Side | None = None,
    crop: Side | None = None,
    interpolation: Interpolation = "bilinear",
) -> Samples:
    """The data set; `image` and `label` name the columns of items that are mappings.

    Pictures and bytes are resized and cropped as `read_image` does, and made RGB.
    """
    items = Items(made(object, arguments or {}), object, image, label)
    labels, fingerprint = identity(items)

    def read(index: int) -> np.ndarray:
        what, found = f"image {index} of {object}", items.pair(index)[0]
        if resize is None and crop is None:
            return pixels(found, what)
        picture = found if isinstance(found, Image.Image) else as_picture(found, what)
        return fitted(checked(picture, what), what, resize, crop, interpolation)

    return Samples(labels=labels, read=read, fingerprint=fingerprint)


@contextmanager
def explained(name: str) -> Generator[None]:
    """Whatever the code of a data set raises is one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise theirs(error, name, top_of(name.partition(":")[0])) from error


def made(name: str, arguments: Mapping[str, Any]) -> Any:
    """The data set that `MODULE:NAME` returns.

    Raises:
        UserError: there is no such module or name, it fails, or returns something else.
    """
    module, _, attribute = name.partition(":")
    if file_of(module) is None:
        raise no_module(module)
    with explained(name):
        known = importlib.import_module(module)
        if not hasattr(known, attribute):
            raise unknown(f"name in {module}", attribute, [n for n in dir(known) if n[0] != "_"])
        dataset = getattr(known, attribute)(**arguments)
    if isinstance(dataset, Mapping):
        several = ", ".join(map(str, dataset))
        raise UserError(f"{name} gives several data sets, {several}: choose one, as by a `split`")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise UserError(
            f"{name} gives {shown(dataset)}, but must give a data set with a length and numbered "
            "items, as a map-style torch Dataset is"
        )
    return dataset


@dataclass(frozen=True)
class Items:
    """The items of a data set, and what errors call it."""

    dataset: Any
    name: str
    image: str
    label: str

    def pair(self, index: int) -> tuple[Any, int]:
        """An image as it comes, and its label."""
        with explained(self.name):
            item = self.dataset[index]
        if isinstance(item, Mapping):
            for column in (self.image, self.label):
                if column not in item:
                    raise unknown(f"column of {self.name}", column, map(str, item))
            return item[self.image], self.whole(item[self.label], index)
        if isinstance(item, Sequence) and len(item) > 1:
            return item[0], self.whole(item[1], index)
        raise UserError(
            f"item {index} of {self.name} is a {type(item).__name__}, but must be an image and a "
            "label, or a mapping with both"
        )

    def whole(self, label: Any, index: int) -> int:
        """A label as a whole number, which may come as a tensor."""
        try:
            return operator.index(label)
        except TypeError:
            said = f"the label of image {index} of {self.name} is {shown(label)}"
            raise UserError(f"{said}, but must be a whole number") from None


def identity(items: Items) -> tuple[list[int], str]:
    """The labels and the fingerprint of a data set, from what tells them fastest."""
    from torchvision.datasets import DatasetFolder

    dataset = items.dataset
    own, targets = getattr(dataset, "fingerprint", None), getattr(dataset, "targets", None)
    if isinstance(own, str) and targets is not None:
        return [items.whole(label, i) for i, label in enumerate(targets)], own
    in_folders = getattr(type(dataset), "__getitem__", None) is DatasetFolder.__getitem__
    if in_folders and dataset.target_transform is None:
        files = [Path(file) for file, _ in dataset.samples]
        return [label for _, label in dataset.samples], fingerprint_of(files)
    contents: Callable[[Items], Iterator[tuple[int, bytes]]] = decoded
    if hasattr(dataset, "cast_column") and dataset.format["type"] is None:
        feature = dataset.features.get(items.image)
        contents = encoded if getattr(feature, "decode", False) else decoded
    labels, digest = [], hashlib.sha256()
    with explained(items.name):
        for label, content in contents(items):
            labels.append(label)
            digest.update(f"{label} {len(content)} ".encode() + content)
    return labels, digest.hexdigest()


def encoded(items: Items) -> Iterator[tuple[int, bytes]]:
    """The labels and the undecoded images of a data set of Hugging Face's."""
    dataset, column = items.dataset, items.image
    if items.label not in dataset.column_names:
        raise unknown(f"column of {items.name}", items.label, dataset.column_names)
    feature = dataset.features[column]
    for index, row in enumerate(dataset.cast_column(column, replace(feature, decode=False))):
        kept = row[column]["bytes"] or file_hash(Path(row[column]["path"])).encode()
        yield items.whole(row[items.label], index), f"{feature} ".encode() + kept


def decoded(items: Items) -> Iterator[tuple[int, bytes]]:
    """The labels and the pixels of a data set."""
    for index in range(len(items.dataset)):
        image, label = items.pair(index)
        found = pixels(image, f"image {index} of {items.name}")
        yield label, f"{found.dtype} {found.shape} ".encode() + found.tobytes()


def pixels(image: Any, what: str) -> np.ndarray:
    """An image as RGB (3, H, W), of its own bytes or floats.

    Raises:
        UserError: it is neither a picture nor an array (3, H, W), (1, H, W) or (H, W).
    """
    if isinstance(image, Image.Image):
        return fitted(checked(image, what), what, None, None, "bilinear")
    found = np.asarray(image)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[0] not in (1, 3):
        said = f"{what} is {type(image).__name__} {found.shape}"
        raise UserError(f"{said}, but must be a picture, or (3, height, width)")
    return found.repeat(3, axis=0) if found.shape[0] == 1 else found


def checked(picture: Image.Image, what: str) -> Image.Image:
    """A picture of at most 8 bits a channel; else a UserError."""
    if deep(picture) or picture.mode not in MODES:
        raise UserError(f"{what} has colours of mode {picture.mode}; convert it to RGB first")
    return picture


def as_picture(image: Any, what: str) -> Image.Image:
    """An array of bytes as a picture, which can be resized; a UserError for one of floats."""
    found = pixels(image, what)
    if found.dtype != np.uint8:
        raise UserError(
            f"{what} is of {found.dtype}: only pictures and bytes are resized and cropped here; do "
            "it in the data set, or leave its conversion to a tensor out"
        )
    return Image.fromarray(np.ascontiguousarray(found.transpose(1, 2, 0)))
