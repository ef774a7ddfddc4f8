"""A step of Adam along a direction that is given, which need not be an objective's gradient.

`puriflow.diffusion.optimisation` has the same step along the gradient that it takes itself.
"""

import torch
from torch import Tensor

from puriflow.diffusion.optimisation import BETA1, BETA2, EPS


def adam_step(state: Tensor, g: Tensor, k: int, learning_rate: float) -> Tensor:
    """The state (x, m, v) after step k = 0, 1, ... along g (Kingma and Ba 2015, Algorithm 1)."""
    x, m, v = state
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    m_hat, v_hat = m / (1 - BETA1 ** (k + 1)), v / (1 - BETA2 ** (k + 1))
    # the slope of a root at 0 is infinite, and that of |g|, which is meant, is not
    root = v_hat.clamp_min(torch.finfo(v.dtype).tiny).sqrt()
    return torch.stack([x - learning_rate * m_hat / (root + EPS), m, v])
