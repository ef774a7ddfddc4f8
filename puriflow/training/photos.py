"""Photographs for training: read once, kept as bytes, cropped at random by a seeded generator."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from puriflow.errors import Problem
from puriflow.images.reading import read_image
from puriflow.images.samples import fingerprint_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Photos:
    """The photographs of a folder and of its subfolders, in sorted order.

    Args:
        folder: any tree of images.
        held_out: how many at the end are kept for measuring and never trained on.

    Raises:
        Problem: the folder is missing or has too few images, or an image cannot be read.
    """

    def __init__(self, folder: str | Path, *, held_out: int):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise Problem(f"training images: folder {folder} does not exist")
        files = sorted(f for f in self.folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if len(files) <= held_out:
            raise Problem(
                f"training images: {folder} has {len(files)} images, and {held_out} of them would "
                "be held out for measuring"
            )
        self.fingerprint = fingerprint_of(files)
        self.train = [torch.tensor(read_image(f)) for f in files[: len(files) - held_out]]
        self.held_out = files[len(files) - held_out :]

    def crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Random crops (count, 3, size, size) in [0, 1], flipped and turned at random."""
        images = [i for i in self.train if min(i.shape[-2:]) >= size]
        if not images:
            raise Problem(f"training images: none in {self.folder} is as large as a crop of {size}")
        crops = []
        for _ in range(count):
            image = images[_integer(len(images), generator)]
            top = _integer(image.shape[-2] - size + 1, generator)
            left = _integer(image.shape[-1] - size + 1, generator)
            crop = image[:, top : top + size, left : left + size]
            crop = torch.rot90(crop, _integer(4, generator), dims=(1, 2))
            crops.append(crop.flip(2) if _integer(2, generator) else crop)
        return torch.stack(crops).float() / 255

    def measured(self) -> Iterator[Tensor]:
        """The held-out photographs, resized to 256 and cropped to 224: (1, 3, 224, 224), [0, 1]."""
        for file in self.held_out:
            yield torch.tensor(read_image(file, resize=256, crop=224))[None].float() / 255


def _integer(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))
