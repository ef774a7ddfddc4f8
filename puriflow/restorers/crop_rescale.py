"""Cropping and rescaling (Guo et al. 2018), in a deterministic form: the centre of the image.

Guo et al. average the answers to random crops, 30 of 90x90 pixels of a 224 image in Athalye et
al.'s (2018) attack of it. A crop here is the one at the centre, enlarged to the image's own size:
linear in the image, so that an attack goes through it exactly.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.options import Side
from puriflow.straight_through import straight_through


class CropRescale(nn.Module):
    """The centre of an image at the image's size, bilinear; `crop` is its short side in pixels."""

    def __init__(self, crop: int):
        super().__init__()
        self.crop = crop

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to the same shape and range.

        The crop has the proportions of the image.

        Raises:
            UserError: it is larger than the image.
        """
        size = images.shape[-2:]
        if self.crop > min(size):
            raise UserError(f"crop is {self.crop}, but the image is {size[0]}x{size[1]}")
        height, width = (round(self.crop * side / min(size)) for side in size)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        centre = images[..., top : top + height, left : left + width]
        large = F.interpolate(centre, size=size, mode="bilinear", align_corners=False)
        # A mean of pixels leaves [0, 1] by rounding alone, which has no gradient.
        return straight_through(lambda y: y.clamp(0, 1), large)


def build(*, crop: Side = 90) -> CropRescale:
    """The centre `crop` pixels, enlarged."""
    return CropRescale(crop)
