"""Networks for a GPU, as far as a CPU can tell: compiled, and in the order of numbers there.

What is compiled here is what a GPU runs but for its last step, the kernels themselves.
"""

from functools import partialmethod

import pytest
import torch
from test_precision import WIDE, gradient, network
from torch import nn

from puriflow import kernels
from puriflow.compute import counted
from puriflow.diffusion import recomputation
from puriflow.errors import UserError
from puriflow.kernels import chosen, layout, to_compile
from puriflow.provenance import machine
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.randomness import ImageNoise

CPU, GPU = torch.device("cpu"), torch.device("cuda")

SCOREOPT = {"method": "O", "sigma": 0.5, "n_iter": 1, "learning_rate": 0.1}
SCOREOPT |= {"shared": False, "resize": None}


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def traced(monkeypatch):
    """Networks are compiled down to torch's own operations."""
    compile = partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", compile)
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("kind", "precision"), [*((kind, "float32") for kind in WIDE), ("adm", "bfloat16")]
)
@pytest.mark.usefixtures("traced")
def test_a_compiled_network_is_the_same_network(kind, precision, x, monkeypatch):
    expected = gradient(network(kind, precision), x)
    with to_compile(True):
        compiled = network(kind, precision)
    gradient(compiled, x)
    kept = gradient(compiled, x)
    monkeypatch.setattr(recomputation, "KEPT", 0)
    assert torch.equal(kept, gradient(compiled, x))
    assert torch.cosine_similarity(kept.flatten(), expected.flatten(), dim=0) > 0.999
    t = torch.tensor(0.09)
    one = compiled.eps(x[:1], t)  # as where one image is left
    assert (one - compiled.eps(x, t)[:1]).norm() < 1e-2 * one.norm()


@pytest.mark.usefixtures("traced")
def test_it_has_no_second_derivative_and_says_so(x):
    with to_compile(True):
        purifier = ScoreOpt(network("edm", "float32"), **SCOREOPT)
    with pytest.raises(UserError, match=r"compiled has no second derivative.*compute\.compile"):
        purifier((x + 1) / 2, ImageNoise(0, "test", [3, 8]))


def test_a_gpu_compiles_if_it_is_asked_to_and_a_cpu_never():
    for device, wanted, found in ((GPU, True, True), (GPU, False, False), (CPU, True, False)):
        with chosen(device, compiled=wanted):
            assert kernels.compiling is found
            assert machine(CPU).get("compiled") == ("diffusion networks" if found else None)
    assert not kernels.compiling


def test_what_is_only_counted_is_not_compiled():
    with chosen(GPU, compiled=True), counted():
        assert not network("edm", "float32").compiled


def order(network):
    """Whether its convolutions have their weights pixel by pixel, or channel by channel."""
    weights = (m.weight for m in network.modules() if isinstance(m, nn.Conv2d))
    wide = [w for w in weights if 1 not in w.shape]
    assert wide
    return {w.is_contiguous(memory_format=torch.channels_last) for w in wide}


@pytest.mark.parametrize("kind", WIDE)
def test_only_full_float32_on_a_gpu_goes_channel_by_channel(kind, x):
    expected = gradient(network(kind, "float32"), x)
    with chosen(GPU):
        full, half = network(kind, "float32"), network(kind, "bfloat16")
        assert (layout(), layout("tf32")) == (torch.contiguous_format, torch.channels_last)
    assert (order(full), order(half)) == ({False}, {True})
    assert order(network(kind, "float32")) == {True}
    found = gradient(full, x)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99999
