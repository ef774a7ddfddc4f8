"""The names of the classes, in the order of the labels."""

from collections.abc import Sequence

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def imagenet_names() -> Sequence[str]:
    """The thousand classes of ImageNet-1k, as torchvision has them."""
    import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision

    # isort: split
    from torchvision.models import ResNet50_Weights

    return ResNet50_Weights.IMAGENET1K_V1.meta["categories"]


def class_names(count: int) -> Sequence[str]:
    """Of a classifier of 1000 classes ImageNet's, of 10 CIFAR-10's, else the numbers."""
    if count == 1000:
        return imagenet_names()
    return CIFAR10 if count == len(CIFAR10) else [str(i) for i in range(count)]
