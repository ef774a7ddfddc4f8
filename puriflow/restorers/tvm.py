"""Total variance minimisation by Chambolle's algorithm, by scikit-image.

The default weight is scikit-image's, as in Prakash et al.'s code, which the paper most likely ran.
"""

from skimage.restoration import denoise_tv_chambolle

from puriflow.options import Positive
from puriflow.restorers.classical import Classical


def build(*, weight: Positive = 0.1) -> Classical:
    """Total variation denoising; a larger `weight` smooths more."""
    return Classical(denoise_tv_chambolle, weight=weight)
