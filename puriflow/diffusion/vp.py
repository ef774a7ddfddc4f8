"""The variance-preserving SDE and its constants (paper, section 4.1; Song et al. 2021, Eq. 11).

dx = -beta(t)/2 x dt + sqrt(beta(t)) dw with beta(t) = 0.1 + 19.9 t for t in [0, 1]. (The paper
prints 1/t where this formula has t.) t' of the paper counts in thousandths: t = t'/1000.
"""

import numpy as np
import torch
from torch import Tensor

BETA_MIN = 0.1
BETA_MAX = 20.0
STEPS = 1000
T_END = 1e-5  # DiffPure solves to t = 1e-5, not to 0

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


def discrete_alpha_bar(level: int | Tensor) -> Tensor:
    """Alpha_bar at discrete level t', 1 to 1000 (one, or one for each image), to multiply images.

    It is float64 and on the CPU, (1, 1, 1, 1) or (N, 1, 1, 1).
    """
    index = torch.as_tensor(level).cpu().numpy() - 1
    return torch.as_tensor(DISCRETE_ALPHA_BAR[index]).reshape(-1, 1, 1, 1)


def diffuse(x0: Tensor, level: int | Tensor, eps: Tensor) -> Tensor:
    """The state at discrete level t', sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps (Eq. 5)."""
    alpha_bar_t = discrete_alpha_bar(level)
    signal = alpha_bar_t.sqrt().to(x0.device, x0.dtype)
    return signal * x0 + (1 - alpha_bar_t).sqrt().to(x0.device, x0.dtype) * eps


def diffuse_to_time(x0: Tensor, t: float, eps: Tensor) -> Tensor:
    """The state at time t in [0, 1] of the continuous process, with the same noise eps."""
    alpha_bar_t = alpha_bar(torch.tensor(t, dtype=torch.float64)).item()
    return alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) ** 0.5 * eps


def time_grid(level: int, evaluations: int) -> Tensor:
    """The times t at which Euler's steps evaluate an equation, from t'/1000 down, and the end.

    Args:
        level: t', 1 to 1000.
        evaluations: how many; t' of them are DiffPure's own, a thousandth apart.

    Returns:
        float32 (evaluations + 1,). The sums run over s = 1 - t in float32 like torchsde's, since
        the truncated labels of the network depend on the last bit.
    """
    s = [torch.tensor(1 - level / STEPS, dtype=torch.float32)]
    for _ in range(evaluations - 1):
        s.append(s[-1] + level / evaluations / STEPS)
    return 1 - torch.stack([*s, torch.tensor(1 - T_END, dtype=torch.float32)])
