"""Non-local means (Buades et al. 2005), by scikit-image.

The defaults are scikit-image's, as in Prakash et al.'s code, which the paper most likely ran.
"""

from skimage.restoration import denoise_nl_means

from puriflow.options import Colour, Patch
from puriflow.restorers.classical import Classical


def build(*, h: Colour = 0.1, patch_size: Patch = 7, patch_distance: Patch = 11) -> Classical:
    """Non-local means; `h` is the cut-off on [0, 1], the patches' sizes are in pixels."""
    return Classical(denoise_nl_means, h=h, patch_size=patch_size, patch_distance=patch_distance)
