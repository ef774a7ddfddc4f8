"""A diffusion network in bfloat16: what of it, how near it stays, and its gradient."""

import pytest
import torch
from tiny_parts import OPTIONS, build_tiny
from torch import nn

from puriflow.diffusion import recomputation
from puriflow.errors import UserError
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import kinds

WIDE = {
    "adm": {"model_channels": 16, "num_head_channels": 16},
    "ddpmpp": {"channels": 16},
    "edm": {"channels": 16},
}


def network(kind, precision):
    """All weights are random: an output that begins at zero would be exact in any precision."""
    denoiser = build_tiny("networks", kind, **{**WIDE[kind], "precision": precision}).eval()
    generator = torch.Generator().manual_seed(3)
    for p in denoiser.requires_grad_(False).parameters():
        if p.ndim > 1:
            scale = p[0].numel() ** -0.5
            p.copy_(scale * torch.randn(p.shape, generator=generator))
    return denoiser


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_network_has_the_option():
    assert set(kinds("networks")) == set(WIDE) == set(OPTIONS["networks"])


@pytest.mark.parametrize("kind", WIDE)
def test_bfloat16_is_near_float32_and_not_the_same(kind, x):
    t = torch.tensor(0.09)
    exact = network(kind, "float32").eps(x, t)
    low = network(kind, "bfloat16").eps(x, t)
    assert low.dtype == torch.float32
    difference = (low - exact).norm() / exact.norm()
    assert 1e-5 < difference < 0.03


@pytest.mark.parametrize("kind", WIDE)
def test_what_reads_or_writes_images_is_in_float32(kind, x):
    denoiser = network(kind, "bfloat16")
    types = {}
    for module in denoiser.modules():
        if isinstance(module, nn.Conv2d):
            ends = min(module.weight.shape[:2]) <= 3
            types.setdefault(ends, set())
            module.register_forward_hook(lambda _, i, o, of=types[ends]: of.add(o.dtype))
    denoiser.eps(x, torch.tensor(0.09))
    assert types == {True: {torch.float32}, False: {torch.bfloat16}}


def gradient(denoiser, x):
    noise = ImageNoise(0, "test", [3, 8])
    x = ((x + 1) / 2).requires_grad_()
    purified = VPSDE(denoiser, t=60, solver="sde-dpmpp", evaluations=3)(x, noise)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad((purified * weights).sum(), x)[0]


@pytest.mark.parametrize("kind", WIDE)
def test_the_gradient_is_that_of_what_was_computed(kind, x, monkeypatch):
    """Steps that are computed again have the precision of the first time, whoever computes them."""
    low = network(kind, "bfloat16")
    gradient(low, x)  # counts what a step keeps
    kept = gradient(low, x)
    monkeypatch.setattr(recomputation, "KEPT", 0)
    recomputed = gradient(low, x)
    with torch.autocast("cpu", enabled=False):
        inside = gradient(low, x)
    assert torch.equal(kept, recomputed)
    assert torch.equal(kept, inside)
    exact = gradient(network(kind, "float32"), x)
    assert not torch.equal(kept, exact)
    assert torch.cosine_similarity(kept.flatten(), exact.flatten(), dim=0) > 0.98


@pytest.mark.parametrize("kind", WIDE)
def test_another_precision_is_refused(kind):
    with pytest.raises(UserError, match="precision"):
        network(kind, "float16")
