"""Photographs for training: read once, kept as bytes, cropped at random by a seeded generator."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from puriflow.datasets.reading import is_systems, read_image
from puriflow.datasets.samples import fingerprint_of
from puriflow.errors import UserError

ICON = 64  # pixels: what is smaller is no photograph
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Photos:
    """The photographs of a folder and of its subfolders, in sorted order.

    Args:
        folder: any tree of images. Where it has the subfolders train/ and test/, the first is
            trained on and the held-out ones are taken evenly from the second.
        held_out: how many are kept for measuring and never trained on: without these subfolders,
            the last ones.

    Raises:
        UserError: the folder is missing or has too few images, or an image cannot be read.
    """

    def __init__(self, folder: str | Path, held_out: int):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"training images: folder {folder} does not exist")
        files = _images(self.folder)
        if len(files) <= held_out:
            raise UserError(
                f"training images: {folder} has {len(files)} images, and {held_out} of them would "
                "be held out for measuring"
            )
        self.fingerprint = fingerprint_of(files)
        if (self.folder / "train").is_dir() and (self.folder / "test").is_dir():
            train, test = _images(self.folder / "train"), _images(self.folder / "test")
            self.held_out = test[:: max(len(test) // held_out, 1)][:held_out]
        else:
            train, self.held_out = files[: len(files) - held_out], files[len(files) - held_out :]
        self.train = [torch.tensor(read_image(f)) for f in train]
        self._by_size: dict[int, list[Tensor]] = {}

    def describe(self) -> str:
        """What a card says of the data."""
        return (
            f"`{self.folder.name}`, {len(self.train)} images; {len(self.held_out)} others held out "
            f"(`{self.held_out[0].name}` to `{self.held_out[-1].name}`)"
        )

    def crops(
        self, count: int, size: int, generator: torch.Generator, *, turned: bool = True
    ) -> Tensor:
        """Random crops (count, 3, size, size) in [0, 1], flipped and maybe turned at random."""
        if size not in self._by_size:
            self._by_size[size] = [i for i in self.train if min(i.shape[-2:]) >= size]
        images = self._by_size[size]
        if not images:
            raise UserError(
                f"training images: none in {self.folder} is as large as a crop of {size}"
            )
        crops = []
        for _ in range(count):
            image = images[_integer(len(images), generator)]
            top = _integer(image.shape[-2] - size + 1, generator)
            left = _integer(image.shape[-1] - size + 1, generator)
            crop = image[:, top : top + size, left : left + size]
            if turned:
                crop = torch.rot90(crop, _integer(4, generator), dims=(1, 2))
            crops.append(crop.flip(2) if _integer(2, generator) else crop)
        return torch.stack(crops).float() / 255

    def held_out_images(self) -> Iterator[Tensor]:
        """The held-out images (1, 3, H, W) in [0, 1].

        Photographs are resized to 256 and cropped to 224; icons, like CIFAR-10's, stay as they are.
        """
        icons = min(self.train[0].shape[-2:]) < ICON
        resize, crop = (None, None) if icons else (256, 224)
        for file in self.held_out:
            yield torch.tensor(read_image(file, resize=resize, crop=crop))[None].float() / 255


def _images(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if is_image(file) and not any(map(is_systems, file.relative_to(folder).parts))
    )


def is_image(file: Path) -> bool:
    """Whether a file is one to train on, by its ending."""
    return file.suffix.lower() in SUFFIXES


def _integer(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))
