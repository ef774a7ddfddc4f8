"""DPM-Solver++ and SDE-DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), for a few evaluations.

They take D, the denoised image, for constant or linear in lambda = log(alpha / sigma) over a step,
and integrate all else exactly. They are written for states x of the VE process, where alpha is 1;
a VP state is one of them, times sqrt(alpha_bar), so that both processes have the same solver. Per
step, h = lambda_next - lambda and e^-h = sigma_next / sigma, and the paper's formulas (section 5
and appendix B) are, with eta = 1 for the reverse SDE and eta = 0 for the probability-flow ODE,

    x_next = e^(-(1 + eta) h) x + (1 - e^(-(1 + eta) h)) D + sigma_next sqrt(1 - e^(-2 eta h)) z.

Levels are spaced as Karras et al. 2022 do (Eq. 5), which puts more of them where there is much
noise than an even spacing in lambda: what an image shows is decided there. The end is the state at
t = 0.0005, half a level of DDPM's process, and not D there. The noise that is in it, 0.9 of 255
grey levels, is a part of the solution's variance; DiffPure's last step of 1/1000 leaves 1.4.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, alpha_bar
from puriflow.options import Correction

VE_SIGMAS = (1 / DISCRETE_ALPHA_BAR - 1) ** 0.5  # of the levels t' = 1 to 1000
RHO = 7  # of Karras et al.'s spacing
SIGMA_END = (1 / alpha_bar(torch.tensor(5e-4, dtype=torch.float64, device="cpu")).item() - 1) ** 0.5


def sigma_grid(level: int, evaluations: int, known: Tensor | None = None) -> list[float]:
    """The sigmas at which a network is asked, from that of t' down, and the end.

    They are evenly spaced in sigma^(1 / 7).

    Args:
        level: t', 1 to 1000.
        evaluations: how many, 1 to t'.
        known: the sigmas of t' = 1 to 1000, if the network knows these levels only. Each sigma
            but the end is then the nearest of them that is no other's, so that the network is told
            what the formulas take it for.
    """
    first, last = VE_SIGMAS[level - 1] ** (1 / RHO), SIGMA_END ** (1 / RHO)
    sigmas = np.linspace(first, last, evaluations + 1) ** RHO
    if known is not None:
        rising = np.arange(evaluations)
        lambdas = np.log(known[:level].cpu().numpy())
        nearest = np.abs(lambdas[:, None] - np.log(sigmas[-2::-1])).argmin(axis=0)
        distinct = np.maximum.accumulate(nearest - rising) + rising
        levels = np.minimum(distinct, rising + level - evaluations)[::-1]
        sigmas[:-1] = known.cpu().numpy()[levels]
    return sigmas.tolist()


def sample(
    denoise: Callable[..., Tensor],
    x: Tensor,
    sigmas: list[float],
    draw: Callable[[Tensor], Tensor],
    trace: Callable[[float, Tensor], None],
    *,
    eta: Literal[0, 1],
    correction: Correction | None = None,
) -> Tensor:
    """Solve the reverse SDE (eta = 1) or the ODE (eta = 0) along `sigmas`; the last VE state.

    Args:
        denoise: D(x, sigma=...).
        x: the VE state (N, 3, H, W) at the first sigma.
        sigmas: of each evaluation, falling, and of the end.
        draw: standard normal noise in the shape of an image; asked once a step, and never of the
            ODE.
        trace: called after each step with its sigma and the VE state.
        eta: the equation.
        correction: of the second-order multistep method, 2M, for a D that is linear; None for the
            first order. `midpoint` is the paper's; `heun` integrates the linear D exactly.
    """
    denoised_before, h_before = None, math.nan
    for sigma, sigma_next in pairwise(sigmas):
        h = math.log(sigma / sigma_next)
        share = -math.expm1(-(1 + eta) * h)  # of D in x_next
        denoised = denoise(x, sigma=sigma)
        mean = (1 - share) * x + share * denoised
        if correction is not None and denoised_before is not None:
            change = (denoised - denoised_before) * (h / h_before)  # of D over the step
            weight = share / 2 if correction == "midpoint" else 1 - share / ((1 + eta) * h)
            mean = mean + weight * change
        noise = sigma_next * math.sqrt(-math.expm1(-2 * eta * h))
        x = mean + noise * draw(x) if eta else mean
        denoised_before, h_before = denoised, h
        trace(sigma_next, x)
    return x
