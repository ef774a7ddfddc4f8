"""Grad-CAM (Selvaraju et al. 2017), by captum: where a classifier sees a class.

The paper does not say at which layer. Selvaraju et al. take the last convolutional one. Here that
is what the network's global pooling gets, the last map of more than one pixel.
"""

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.errors import UserError


def last_map(classifier: nn.Module, images: Tensor) -> nn.Module:
    """The module that gives the last feature map (N, C, h, w) of more than one pixel.

    Raises:
        UserError: the classifier has no such map, or goes on from it with tokens (N, n, C), as
            transformers do, so that its classes do not come from a map.
    """
    outputs: list[tuple[nn.Module, int]] = []  # what gives maps and tokens, and their dimensions

    def hook(module: nn.Module, _: object, out: object) -> None:
        if isinstance(out, Tensor) and (out.ndim == 3 or is_map(out, images)):
            outputs.append((module, out.ndim))

    handles = [module.register_forward_hook(hook) for module in classifier.modules()]
    try:
        with torch.no_grad():
            classifier(images)
    finally:
        for handle in handles:
            handle.remove()
    if not outputs:
        raise UserError("the classifier has no feature maps for Grad-CAM")
    module, dimensions = outputs[-1]
    if dimensions == 3:
        raise UserError("Grad-CAM needs a feature map, and the classifier is one of tokens")
    return module


def is_map(out: Tensor, images: Tensor) -> bool:
    """Whether a tensor is (N, C, h, w) with about the images' aspect; (N, h, w, C) is not."""
    if out.ndim != 4 or min(out.shape[-2:]) == 1:
        return False
    strides = [side / own for side, own in zip(images.shape[-2:], out.shape[-2:], strict=True)]
    return max(strides) < 2 * min(strides)


def grad_cam(classifier: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM (N, H, W) of images (N, 3, H, W) in [0, 1] for classes (N,).

    Not negative: the layer's map, enlarged bilinearly; not normalised.
    """
    layer = LayerGradCam(classifier, last_map(classifier, images[:1]))
    with torch.enable_grad():
        cam = layer.attribute(images, target=classes, relu_attributions=True)
    assert isinstance(cam, Tensor)  # of one layer
    size = images.shape[-2:]
    return F.interpolate(cam.detach(), size, mode="bilinear", align_corners=False)[:, 0]
