"""Total variance minimisation by Chambolle's algorithm, by scikit-image.

The default weight is scikit-image's, as in Prakash et al.'s code, which the paper most likely ran.
"""

from typing import Annotated

from skimage.restoration import denoise_tv_chambolle

from puriflow.options import ON_UNIT, real
from puriflow.restorers.classical import Classical


def build(*, weight: Annotated[float, real(1e-9, 5, ON_UNIT)] = 0.1) -> Classical:
    """Total variation denoising; a larger `weight` smooths more, and 1 leaves little of [0, 1]."""
    return Classical(denoise_tv_chambolle, weight=weight)
