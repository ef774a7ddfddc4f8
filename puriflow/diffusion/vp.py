"""The variance-preserving SDE and its constants (paper, section 4.1; Song et al. 2021).

dx = -beta(t)/2 x dt + sqrt(beta(t)) dw with beta(t) = 0.1 + 19.9 t for t in [0, 1]. (The paper
prints 1/t where this formula has t.) t' of the paper counts in thousandths: t = t'/1000.
"""

import numpy as np
import torch
from torch import Tensor

BETA_MIN = 0.1
BETA_MAX = 20.0
STEPS = 1000

# The product of (1 - beta) over the discrete schedule: the forward noise of DiffPure and of DDPM.
DISCRETE_ALPHA_BAR = np.cumprod(1 - np.linspace(BETA_MIN / STEPS, BETA_MAX / STEPS, STEPS))


def beta(t: Tensor) -> Tensor:
    """The rate of noise at t in [0, 1]."""
    return BETA_MIN + t * (BETA_MAX - BETA_MIN)


def alpha_bar(t: Tensor) -> Tensor:
    """The share of the signal's variance left at t: exp(-integral of beta from 0 to t).

    Rounded once, from float64: near t = 0 one bit of a float32 exponential, which differs between
    processors, is 0.6 % of 1 - alpha_bar.
    """
    exponent = -0.5 * (BETA_MAX - BETA_MIN) * t**2 - BETA_MIN * t
    return torch.exp(exponent.double()).to(t.dtype)


def time_of_sigma(sigma: Tensor) -> Tensor:
    """The t whose alpha_bar is 1 / (1 + sigma^2): where a VE state of that sigma is, rescaled."""
    slope = BETA_MAX - BETA_MIN
    integral = torch.log1p(sigma.double() ** 2)
    return (((BETA_MIN**2 + 2 * slope * integral).sqrt() - BETA_MIN) / slope).to(sigma.dtype)


def diffuse(x: Tensor, level: int | Tensor, noise: Tensor) -> Tensor:
    """Add the noise of discrete level t' (1 to 1000; one, or one for each image) to x: Eq. 5."""
    kept = torch.as_tensor(DISCRETE_ALPHA_BAR[torch.as_tensor(level).cpu().numpy() - 1])
    kept = kept.reshape(-1, 1, 1, 1)
    signal, spread = (values.to(x.device, x.dtype) for values in (kept.sqrt(), (1 - kept).sqrt()))
    return signal * x + spread * noise
