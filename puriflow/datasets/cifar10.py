"""CIFAR-10 through torchvision: 10,000 lossless test images, or the 50,000 of training."""

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision
from puriflow.datasets.samples import Samples
from puriflow.errors import UserError
from puriflow.options import Text


def build(*, root: Text, train: bool = False, download: bool = False) -> Samples:
    """The data set below `root` as torchvision lays it out (`cifar-10-batches-py`)."""
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root, train=train, download=download)
    except RuntimeError as error:
        raise UserError(f"CIFAR-10 in {root}: {error}") from None
    return Samples(
        labels=data.targets,
        read=lambda i: data.data[i].transpose(2, 0, 1),
        fingerprint=data.test_list[0][1] if not train else data.train_list[0][1],
    )
