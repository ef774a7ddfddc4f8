"""Content distance: how far the feature maps of two images are apart (paper, section 4.1, Eq. 7).

The paper takes it from VGG-19 and cites two papers that scale it differently; which layers it
took, and whether before or behind the ReLU, it does not say. Here the layers are those that the
configuration's entry of `features` lists, by names that say it: of VGG-19, `conv2_2` is before the
ReLU, `relu2_2` behind it; EfficientNet-Lite0's stages end without an activation. How it is scaled
is the figure's `definition`. What Figure 4 normalises by is not said either; here it is the
distance of the line that the figure names as its `reference`, layer by layer, so that what is
drawn does not depend on the definition.
"""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from puriflow.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor

Definition = Literal["eq7", "johnson", "gatys"]
DEFINITIONS = get_args(Definition)


def content_distance(
    maps: "Tensor", reference: "Tensor", definition: Definition = "eq7"
) -> "Tensor":
    """Content distance float64 (N,) of feature maps (N, C, H, W) from those of the ground truth.

    By `eq7`, the paper's, squared differences are summed over channels and averaged over the H x W
    positions; by `johnson` (Johnson et al. 2016) they are averaged over channels as well; `gatys`
    (Gatys et al. 2016) is half their sum over channels and positions.
    """
    if definition not in DEFINITIONS:
        raise unknown("definition of content distance", definition, DEFINITIONS)
    if maps.shape != reference.shape:
        raise ValueError(f"feature maps {tuple(maps.shape)} and {tuple(reference.shape)}")
    channels, positions = maps.shape[1], maps.shape[2] * maps.shape[3]
    total = (maps.double() - reference.double()).square().sum(dim=(1, 2, 3))
    scale = {"eq7": 1 / positions, "johnson": 1 / (channels * positions), "gatys": 0.5}
    return total * scale[definition]


def ratio_of_means(
    values: np.ndarray, references: np.ndarray, *, n_resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean of values over mean of references, of the same n images, and its 95 % interval.

    A bootstrap of `n_resamples` draws of n images with replacement, the same ones in every call.
    """
    pairs = np.stack([values, references]).astype(np.float64)
    count = pairs.shape[1]
    resamples = np.random.default_rng(0).integers(0, count, (n_resamples, count))
    means = pairs[:, resamples].mean(axis=2)
    low, high = np.percentile(means[0] / means[1], [2.5, 97.5])
    return float(pairs[0].mean() / pairs[1].mean()), float(low), float(high)
