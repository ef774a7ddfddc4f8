"""Optimisation of an image along the gradient of an objective, in steps that can be differentiated.

A step goes from the state (x, m, v), the image and the moments of the gradients so far, to the next
one, so that a chain of steps is differentiated like a solver's. The gradient of the objective is
itself differentiable, wherever a gradient of the step is wanted.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from puriflow.errors import unknown

Rule = Literal["adam", "diffhammer"]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # of Kingma and Ba 2015


def begin(x: Tensor) -> Tensor:
    """The state (3, N, C, H, W) before the first step."""
    return torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)])


def gradient(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of the sum of an objective (N,) at x (N, C, H, W); differentiable where x has a gradient.

    It always has its graph, with which some kernels round otherwise: so a step is the same to the
    last bit whether it is differentiated or not.
    """
    differentiated = torch.is_grad_enabled() and x.requires_grad
    y = x if differentiated else x.detach().requires_grad_()
    with torch.enable_grad():
        (g,) = torch.autograd.grad(objective(y).sum(), y, create_graph=True)
    return g if differentiated else g.detach()


def descend(
    objective: Callable[[Tensor], Tensor], state: Tensor, k: int, rule: Rule, learning_rate: float
) -> Tensor:
    """The state after step k = 0, 1, ... of a rule: a lower objective (N,) of x."""
    return adam_step(state, gradient(objective, state[0]), k, learning_rate, rule)


def adam_step(
    state: Tensor, g: Tensor, k: int, learning_rate: float, rule: Rule = "adam"
) -> Tensor:
    """The state after step k = 0, 1, ... of a rule along g, of whatever that is the gradient.

    `adam` is Adam (Kingma and Ba 2015, Algorithm 1). `diffhammer` is what DiffHammer's purifier LM
    does in its place: it carries on the moments after their bias was corrected, so that corrections
    compound and steps die down (five of a constant gradient go 1.29 learning rates, Adam's 5).
    """
    x, m, v = state
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    m_hat, v_hat = m / (1 - BETA1 ** (k + 1)), v / (1 - BETA2 ** (k + 1))
    if rule == "diffhammer":
        m, v = m_hat, v_hat
    # the slope of a root at 0 is infinite, and that of |g|, which is meant, is not
    root = v_hat.clamp_min(torch.finfo(v.dtype).tiny).sqrt()
    return torch.stack([x - learning_rate * m_hat / (root + EPS), m, v])


def check_rule(rule: str) -> None:
    """Refuse what is no rule."""
    if rule not in get_args(Rule):
        raise unknown("rule", rule, get_args(Rule))
