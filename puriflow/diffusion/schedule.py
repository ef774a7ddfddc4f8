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


def space_timesteps(respacing: int) -> list[int]:
    """`respacing` timesteps from 0 to 999, evenly spaced and rounded as guided-diffusion does."""
    if not 1 <= respacing <= STEPS:
        raise UserError(f"respacing is {respacing}, but must lie between 1 and {STEPS}")
    stride = (STEPS - 1) / (respacing - 1) if respacing > 1 else 1.0
    return [round(i * stride) for i in range(respacing)]


class Schedule:
    """What a step of the process needs, for the timesteps that it has.

    Attributes:
        timesteps: of the whole process.
        betas, alpha_bar, alpha_bar_prev: of the respaced one.
        sigma: the VE sigma of each step.
        posterior_mean_coef1, posterior_mean_coef2: of x0 and of x_t (Ho et al., Eq. 7).
        posterior_log_variance: clipped at the first step, where it is infinite.
        fixed_log_variance: for a network that learns none: the posterior's ("fixed small"), or that
            of beta with the posterior's at the first step ("fixed large", Ho et al., section 3.2).
    """

    def __init__(self, timesteps: Sequence[int], *, fixed_large: bool = False):
        self.timesteps = np.asarray(timesteps)
        self.alpha_bar = DISCRETE_ALPHA_BAR[self.timesteps]
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        self.betas = 1 - self.alpha_bar / self.alpha_bar_prev
        self.sigma = (1 / self.alpha_bar - 1) ** 0.5
        beta_bar, beta_bar_prev = 1 - self.alpha_bar, 1 - self.alpha_bar_prev
        self.posterior_variance = self.betas * beta_bar_prev / beta_bar
        second = self.posterior_variance[min(1, len(self.betas) - 1)]
        small, large = (
            np.log(np.maximum(np.append(second, variance[1:]), 1e-20))
            for variance in (self.posterior_variance, self.betas)
        )
        self.posterior_log_variance = small
        self.fixed_log_variance = large if fixed_large else small
        self.posterior_mean_coef1 = self.betas * self.alpha_bar_prev**0.5 / beta_bar
        self.posterior_mean_coef2 = beta_bar_prev * (1 - self.betas) ** 0.5 / beta_bar

    def predict_x0(self, x: Tensor, eps: Tensor, i: Tensor | int) -> Tensor:
        """The x0 that x at step i (one, or one for each image) and its noise imply (Eq. 15)."""
        return extract(1 / self.alpha_bar**0.5, i, x) * x - extract(self.sigma, i, x) * eps

    def posterior_mean(self, x0: Tensor, x: Tensor, i: Tensor | int) -> Tensor:
        """The mean of the state before step i, given x0 and x at i (Eq. 7)."""
        coef1, coef2 = self.posterior_mean_coef1, self.posterior_mean_coef2
        return extract(coef1, i, x) * x0 + extract(coef2, i, x) * x

    def log_variance(self, v: Tensor | None, x: Tensor, i: Tensor | int) -> Tensor:
        """Of the state before step i: fixed, or between the posterior's and beta's.

        Learned values v on [-1, 1] interpolate (Nichol and Dhariwal, Eq. 15).
        """
        if v is None:
            return extract(self.fixed_log_variance, i, x).expand_as(x)
        low = extract(self.posterior_log_variance, i, x)
        fraction = (v + 1) / 2
        return fraction * extract(np.log(self.betas), i, x) + (1 - fraction) * low


def extract(array: np.ndarray, i: Tensor | int, x: Tensor) -> Tensor:
    """Elements of an array, shaped to multiply x (N, C, H, W); rounded once, from float64."""
    elements = torch.from_numpy(array)[torch.as_tensor(i).cpu()].reshape(-1, 1, 1, 1)
    return elements.to(x.device, x.dtype)
