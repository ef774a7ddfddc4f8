"""The names of the classes, in the order of the labels."""

from collections.abc import Sequence

from puriflow.options import Named

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def imagenet_names() -> Sequence[str]:
    """The thousand classes of ImageNet-1k, as torchvision has them."""
    import puriflow.classifiers.torchvision_import  # noqa: F401, before torchvision

    # isort: split
    from torchvision.models import ResNet50_Weights

    return ResNet50_Weights.IMAGENET1K_V1.meta["categories"]


def class_names(count: int, dataset: Named | None = None) -> Sequence[str]:
    """The names of so many classes, of a data set that is known; else their numbers."""
    if dataset is not None:
        names = CIFAR10 if dataset == "cifar10" else imagenet_names()
        if len(names) == count:
            return names
    return [str(i) for i in range(count)]
