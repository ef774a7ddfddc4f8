"""Labelled images for training a classifier: a folder of classes, kept as bytes."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from puriflow.datasets.reading import read_image, visible
from puriflow.datasets.samples import fingerprint_of
from puriflow.errors import UserError
from puriflow.training.photos import is_image


class Labelled:
    """The images of `<folder>/train/<class>/` and `<folder>/test/<class>/`, all of one size.

    A class is the place of its name in sorted order, which for CIFAR-10 is the official order.
    Every folder counts, but for those that are hidden or a system's.

    Raises:
        UserError: a folder is missing or has no image, train and test have other classes, or an
            image cannot be read.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.classes = _classes(self.folder / "train")
        if others := set(self.classes) ^ set(_classes(self.folder / "test")):
            raise UserError(
                f"training images: {folder}/train and {folder}/test must have the same classes, "
                f"but only one of them has {', '.join(sorted(others))}"
            )
        files = {split: self._files(split) for split in ("train", "test")}
        self.fingerprint = fingerprint_of([file for split in files.values() for file, _ in split])
        self.train = _load(files["train"])
        self.test = _load(files["test"])

    def _files(self, split: str) -> list[tuple[Path, int]]:
        found: list[tuple[Path, int]] = []
        for label, name in enumerate(self.classes):
            images = [file for file in visible(self.folder / split / name) if is_image(file)]
            if not images:
                raise UserError(f"training images: {self.folder / split / name} has no image in it")
            found += [(file, label) for file in images]
        return found

    def describe(self) -> str:
        """What a card says of the data."""
        return (
            f"`{self.folder.name}`, {len(self.train[0])} training and {len(self.test[0])} test "
            f"images of {len(self.classes)} classes"
        )

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random training images (count, 3, H, W) in [0, 1], shifted and mirrored, and labels."""
        images, labels = self.train
        chosen = torch.randint(len(images), (count,), generator=generator)
        padded = F.pad(images[chosen].float() / 255, [4] * 4, mode="reflect")
        height, width = images.shape[-2:]
        shifts = torch.randint(9, (count, 2), generator=generator).tolist()
        mirrored = torch.rand(count, generator=generator) < 0.5
        cut = torch.stack(
            [x[:, i : i + height, j : j + width] for x, (i, j) in zip(padded, shifts, strict=True)]
        )
        return torch.where(mirrored[:, None, None, None], cut.flip(3), cut), labels[chosen]


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"training images: folder {folder} does not exist")
    return [inner.name for inner in visible(folder) if inner.is_dir()]


def _load(files: list[tuple[Path, int]]) -> tuple[Tensor, Tensor]:
    if not files:
        raise UserError("training images: there are no folders of classes")
    images = [torch.tensor(read_image(file)) for file, _ in files]
    if len({image.shape for image in images}) > 1:
        raise UserError("training images: a classifier needs images of one size")
    return torch.stack(images), torch.tensor([label for _, label in files])
