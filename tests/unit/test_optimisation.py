"""An optimiser's steps: they are Adam's, and their chain has its exact gradient."""

from itertools import pairwise

import pytest
import torch

from puriflow.diffusion.optimisation import adam_step, begin, check_rule, descend, gradient
from puriflow.errors import UserError

CENTRE = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 3, 2, 2)


def objective(x):
    """Not quadratic, so that its own gradient has a gradient."""
    return ((x - CENTRE) ** 2 + 0.1 * (3 * x).sin()).flatten(1).mean(1)


def optimised(x, steps, rule="adam"):
    state = begin(x)
    for k in range(steps):
        state = descend(objective, state, k, rule, 0.05)
    return state[0]


def start():
    return torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_adam_is_torch_s(steps):
    x = start().requires_grad_()
    adam = torch.optim.Adam([x], lr=0.05)
    for _ in range(steps):
        adam.zero_grad()
        objective(x).sum().backward()
        adam.step()
    torch.testing.assert_close(optimised(start(), steps), x.detach(), rtol=1e-12, atol=1e-12)


def test_a_step_along_a_given_direction_is_the_same():
    state = other = begin(start())
    for k in range(3):
        other = adam_step(other, gradient(objective, other[0]), k, 0.05)
        state = descend(objective, state, k, "adam", 0.05)
    assert torch.equal(state, other)


def test_diffhammer_s_steps_of_a_constant_gradient_die_down():
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    state, places = begin(x), [0.0]
    for k in range(5):
        state = descend(lambda y: y.flatten(1).sum(1), state, k, "diffhammer", 0.1)
        places.append(float(state[0]))
    steps = [before - after for before, after in pairwise(places)]
    expected = [0.1, 0.02353, 0.00437, 0.00073, 0.00011]  # of 0.1; Adam's are all 0.1
    torch.testing.assert_close(steps, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["adam", "diffhammer"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_gradient_of_a_chain_is_that_of_central_differences(rule, steps):
    x = start().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    (found,) = torch.autograd.grad((optimised(x, steps, rule) * weights).sum(), x)
    h = 1e-8  # Adam's first step is nearly a sign
    with torch.no_grad():
        ahead, behind = (optimised(x + s * direction, steps, rule) for s in (h, -h))
        expected = ((ahead - behind) * weights).sum() / (2 * h)
    torch.testing.assert_close((found * direction).sum(), expected, rtol=1e-4, atol=1e-7)


def test_an_objective_that_is_flat_has_a_gradient_without_nan():
    x = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64, requires_grad=True)
    state = begin(x)
    for k in range(3):
        state = descend(lambda y: 0 * (y**2).flatten(1).sum(1), state, k, "adam", 0.1)
    (found,) = torch.autograd.grad(state[0].sum(), x)
    assert torch.equal(found, torch.ones_like(x))  # it stays where it is


def test_a_wrong_rule_is_named():
    with pytest.raises(UserError, match="did you mean 'adam'"):
        check_rule("adams")
