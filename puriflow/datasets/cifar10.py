"""CIFAR-10 as published: 10,000 lossless test images, or the 50,000 of training."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.datasets.samples import Samples
from puriflow.errors import UserError, on_disk
from puriflow.options import Text

PUBLISHED = True  # other files are refused by their hashes: what is here does not change
LARGEST = 2**26  # bytes of a file; the published ones have half of it


def build(*, root: Text, train: bool = False, download: bool = False) -> Samples:
    """The data set below `root` as torchvision lays it out (`cifar-10-batches-py`)."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    root = os.path.expanduser(root)
    folder = Path(root, CIFAR10.base_folder)
    all_files = CIFAR10.train_list + CIFAR10.test_list
    if download and not all(check_integrity(folder / name, md5) for name, md5 in all_files):
        try:
            download_and_extract_archive(
                CIFAR10.url, root, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
            )
        except (OSError, RuntimeError) as error:
            raise UserError(f"CIFAR-10 cannot be fetched to {root}: {error}") from None
    files = CIFAR10.train_list if train else CIFAR10.test_list
    batches = [_batch(folder / name, md5) for name, md5 in files]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return Samples(
        labels=[label for batch in batches for label in batch["labels"]],
        read=lambda i: images[i],
        fingerprint=files[0][1],
    )


def _batch(file: Path, md5: str) -> dict:
    """One file of images and labels.

    It is a pickle, which could run anything: so only the published one is loaded, by its hash.
    """
    if not file.is_file():
        raise UserError(f"CIFAR-10 in {file.parent.parent}: {file} is not there, or no file")
    with on_disk(file), file.open("rb") as opened:
        content = opened.read(LARGEST)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"CIFAR-10: {file} is not as published (by its md5); fetch it again")
    return pickle.loads(content, encoding="latin1")  # noqa: S301, of that hash
