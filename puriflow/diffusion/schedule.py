"""The discrete diffusion process, whole or respaced (Ho et al. 2020; Nichol and Dhariwal 2021).

Arrays are float64 and indexed by the steps of the respaced process; `timesteps` says which step of
the whole one each of them is, which is what a discrete network is told.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, STEPS
from puriflow.errors import UserError


def spaced(count: int) -> list[int]:
    """`count` timesteps from 0 to 999, evenly spaced and rounded as guided-diffusion does."""
    if not 1 <= count <= STEPS:
        raise UserError(f"respacing is {count}, but must lie between 1 and {STEPS}")
    stride = (STEPS - 1) / (count - 1) if count > 1 else 1.0
    return [round(i * stride) for i in range(count)]


class Schedule:
    """What a step of the process needs, for the timesteps that are kept.

    Attributes:
        timesteps: of the whole process.
        betas, alpha_bar, alpha_bar_prev: of the respaced one.
        sigma: the VE sigma of each step.
        posterior_mean_coef1, posterior_mean_coef2: of x0 and of x_t (Ho et al., Eq. 7).
        posterior_log_variance: clipped at the first step, where it is infinite.
    """

    def __init__(self, timesteps: Sequence[int]):
        self.timesteps = np.asarray(timesteps)
        self.alpha_bar = DISCRETE_ALPHA_BAR[self.timesteps]
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        self.betas = 1 - self.alpha_bar / self.alpha_bar_prev
        self.sigma = (1 / self.alpha_bar - 1) ** 0.5
        rest, rest_prev = 1 - self.alpha_bar, 1 - self.alpha_bar_prev
        self.posterior_variance = self.betas * rest_prev / rest
        second = self.posterior_variance[min(1, len(self.betas) - 1)]
        clipped = np.append(second, self.posterior_variance[1:])
        self.posterior_log_variance = np.log(np.maximum(clipped, 1e-20))
        self.posterior_mean_coef1 = self.betas * self.alpha_bar_prev**0.5 / rest
        self.posterior_mean_coef2 = rest_prev * (1 - self.betas) ** 0.5 / rest

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self.timesteps)

    def clean(self, x: Tensor, noise: Tensor, i: Tensor) -> Tensor:
        """The x0 that x at step i (one, or one for each image) and its noise imply."""
        return pick(1 / self.alpha_bar**0.5, i, x) * x - pick(self.sigma, i, x) * noise

    def mean(self, x0: Tensor, x: Tensor, i: Tensor) -> Tensor:
        """The mean of the step before i, given x0 and x at i."""
        first = pick(self.posterior_mean_coef1, i, x) * x0
        return first + pick(self.posterior_mean_coef2, i, x) * x

    def log_variance(self, values: Tensor | None, x: Tensor, i: Tensor) -> Tensor:
        """Of the step before i: learned `values` in [-1, 1] choose between its two bounds."""
        low = pick(self.posterior_log_variance, i, x)
        if values is None:
            return low.expand_as(x)
        share = (values + 1) / 2
        return share * pick(np.log(self.betas), i, x) + (1 - share) * low


def pick(array: np.ndarray, i: Tensor | int, x: Tensor) -> Tensor:
    """Elements of an array, shaped to multiply x (N, C, H, W); rounded once, from float64."""
    chosen = torch.from_numpy(array)[torch.as_tensor(i).cpu()].reshape(-1, 1, 1, 1)
    return chosen.to(x.device, x.dtype)
