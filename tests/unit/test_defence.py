from itertools import pairwise

import torch
from torch import nn

from puriflow import Defence
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import beta, diffuse
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise


class Net(nn.Module):
    """A smooth little noise predictor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, x, labels):
        return torch.tanh(self.conv(x))


def defence(step=20):
    torch.manual_seed(0)
    purifier = VPSDE(VPDenoiser(Net(), integer_steps=False), t=30, step_size=step, resize=None)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4).double())
    restorer = nn.Conv2d(3, 3, 3, padding=1).double()
    return Defence(restorer, purifier, classifier).requires_grad_(False)


def images():
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_gradient_is_that_of_finite_differences():
    victim = defence()
    x = images().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: victim(x, [3, 8]), x, atol=1e-5)


def test_recomputing_each_step_changes_no_gradient():
    victim = defence(step=1)
    x = images().requires_grad_()
    (recomputed,) = torch.autograd.grad(victim(x).sum(), x)
    purifier = victim.purifier
    plain = images().requires_grad_()  # the same chain by hand, under plain autograd
    noise = ImageNoise(0, "purify", [0, 1])
    state = victim.restorer(plain) * 2 - 1
    state = diffuse(state, 30, noise.normal_like(state))
    for t, t_next in pairwise(purifier.times):
        dt = t - t_next
        drift = 0.5 * beta(t) * state + beta(t) * purifier.denoiser.score(state, t)
        state = state + drift * dt + (beta(t) * dt).sqrt() * noise.normal_like(state)
    (expected,) = torch.autograd.grad(victim.classifier((state + 1) / 2).sum(), plain)
    torch.testing.assert_close(recomputed, expected, rtol=1e-10, atol=1e-12)


def test_noise_belongs_to_the_index_and_the_draw():
    victim, x = defence(), images()
    both = victim(x, [3, 8])
    torch.testing.assert_close(victim(x[1:], [8]), both[1:], rtol=0, atol=1e-12)
    assert not torch.allclose(victim(x, [3, 9])[1], both[1])
    assert not torch.allclose(victim(x, [3, 8], draw=1), both)
    assert torch.equal(victim(x), victim(x, [0, 1]))


def test_parts_may_be_left_out():
    victim, x = defence(), images()
    bare = Defence(None, None, victim.classifier)
    assert torch.equal(bare(x), victim.classifier(x))
