"""Wavelet denoising with BayesShrink (Prakash et al. 2018), by scikit-image.

Soft thresholds in YCbCr with the noise level of Prakash's code, 0.04; the paper cites it and gives
no parameters of its own.
"""

from typing import Annotated

import pywt
from skimage.restoration import denoise_wavelet

from puriflow.errors import unknown
from puriflow.options import ON_UNIT, Text, real
from puriflow.restorers.classical import Classical

PACKAGE = "PyWavelets"  # by which scikit-image transforms


def build(
    *, sigma: Annotated[float, real(0, 1, ON_UNIT)] | None = 0.04, wavelet: Text = "db1"
) -> Classical:
    """BayesShrink; `sigma` is the noise's standard deviation on [0, 1], None to estimate it."""
    if wavelet not in (known := pywt.wavelist(kind="discrete")):  # pyrefly: ignore[missing-attribute]
        raise unknown("wavelet", wavelet, known)
    return Classical(
        denoise_wavelet,
        sigma=sigma,
        wavelet=wavelet,
        mode="soft",
        method="BayesShrink",
        convert2ycbcr=True,
        rescale_sigma=True,
    )
