"""A defence as a random module of a library, and a library's module in a defence."""

import pytest
import torch
from test_defence import defence, images
from torch import nn

from puriflow import Defence
from puriflow.errors import UserError


class Noisy(nn.Module):
    """A purifier of somebody else's, with a plain forward."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def test_each_call_draws_afresh_and_the_same_seed_gives_the_same_sequence():
    victim, x = defence(evaluations=2), images()
    one, again, other = (victim.random(seed) for seed in (3, 3, 4))
    first, second = one(x), one(x)
    assert not torch.equal(first, second)
    assert torch.equal(first, again(x))
    assert torch.equal(second, again(x))
    assert not torch.equal(first, other(x))
    assert torch.equal(victim(x), victim(x))  # which by itself does not


def test_copies_of_an_image_are_draws_of_it():
    rows = defence(evaluations=2).random()(images()[:1].repeat(3, 1, 1, 1))
    assert len(torch.unique(rows, dim=0)) == 3


def test_a_random_module_is_differentiated_and_stays_in_evaluation_mode():
    module = defence(evaluations=2).random().train()
    assert not any(inner.training for inner in module.modules())
    x = images().requires_grad_()
    module(x).sum().backward()
    assert x.grad.abs().sum() > 0
    with pytest.raises(UserError, match=r"must lie in \[0, 1\], but span"):
        module(images() + 1)


def test_a_purifier_with_a_plain_forward_has_noise_that_belongs_to_the_image():
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4).double())
    victim, x = Defence(None, Noisy(), classifier), images()
    state = torch.get_rng_state()
    both = victim(x, [3, 8])
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(victim(x[1:], [8]), both[1:])
    assert not torch.allclose(victim(x[1:], [8], draw=1), both[1:])
    assert victim.purify(x).shape == x.shape
    with pytest.raises(UserError, match="Noisy has no surrogate"):
        victim.surrogate()
