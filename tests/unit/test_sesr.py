"""SESR: one function in two forms, of the luma alone, trained wide and kept narrow."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_parts import build_tiny, tiny
from torch import nn
from torch.nn import functional as F

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.metrics.cost import cost_of
from puriflow.restorers.sesr import SESR, LinearBlock, OfLuma, luma
from puriflow.training.runs import train_part
from puriflow.zoo.weights import save_weights

SIZES = {"m": 2, "f": 4}


def wide(scale=2, p=32, **sizes):
    """A network to be trained, in float64, with slopes that differ."""
    torch.manual_seed(0)
    network = SESR(scale=scale, p=p, **{**SIZES, **sizes}).double().requires_grad_(False)
    for prelu in network.slopes:
        nn.init.uniform_(prelu.weight, -0.5, 0.5)
    return network


def rgb(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def by_two_convolutions(block):
    """A linear block as its paper draws it."""

    def computed(x):
        out = block.project(block.expand(x))
        return out + x if block.residual else out

    return computed


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("k", [3, 5])
def test_a_linear_block_is_one_convolution(k, residual):
    torch.manual_seed(0)
    block = LinearBlock(4, 4, k, p=16, residual=residual).double()
    x = rgb(2, 4, 9, 7)
    torch.testing.assert_close(block(x), by_two_convolutions(block)(x))
    assert block.kernel().shape == (4, 4, k, k)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_two_forms_are_equal_borders_included(scale):
    network, y = wide(scale), rgb(2, 1, 6, 7)
    narrow = network.collapsed()
    assert not any(isinstance(module, LinearBlock) for module in narrow.modules())
    assert narrow(y).shape == (2, 1, 6 * scale, 7 * scale)
    torch.testing.assert_close(narrow(y), network(y))
    first = x = by_two_convolutions(network.first)(y - 0.5)
    for block, prelu in zip(network.middle, network.slopes, strict=True):
        x = prelu(by_two_convolutions(block)(x))
    last = by_two_convolutions(network.last)(x + first)
    torch.testing.assert_close(narrow(y), F.pixel_shuffle(last + y, scale))


def test_the_gradient_reaches_both_convolutions_of_every_block():
    network = wide().requires_grad_(True)
    network(rgb(1, 1, 8, 8)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(("m", "kernels"), [(5, 13_520), (11, 27_344)])
def test_the_collapsed_form_has_the_published_size_and_no_bias(m, kernels):
    network = build_tiny("restorers", "sesr", m=m).network
    assert sum(p.numel() for p in network.parameters()) == kernels + 16 * m
    assert not any(name.endswith("bias") for name, _ in network.named_parameters())
    assert cost_of(network, 224).macs == kernels * 224**2


def test_the_chroma_is_bicubic_and_the_luma_the_network_s():
    torch.manual_seed(0)
    network = OfLuma(wide().collapsed())
    x = rgb(1, 3, 8, 9)
    out, large = network(x), F.interpolate(x, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(luma(out), network.network(luma(x)))
    for one, other in ((0, 1), (1, 2)):  # differences of colours hold the chroma alone
        torch.testing.assert_close(out[:, one] - out[:, other], large[:, one] - large[:, other])
    # BT.601: white, black and grey
    ends = luma(torch.tensor([1.0, 0.0, 0.5]).reshape(3, 1, 1, 1).expand(3, 3, 1, 1)) * 255
    torch.testing.assert_close(ends.flatten(), torch.tensor([235, 16, 125.5]))


def test_the_exact_gradient_is_that_of_central_differences():
    torch.manual_seed(0)
    restorer = build_tiny("restorers", "sesr", **SIZES).double()
    x = 0.3 + 0.4 * rgb(1, 3, 5, 6)
    weights = rgb(1, 3, 5, 6)
    steps = 1e-6 * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    with torch.no_grad():
        up, down = ((restorer(x + s * steps) * weights).sum((1, 2, 3)) for s in (1, -1))
    x.requires_grad_()
    (grad,) = torch.autograd.grad((restorer(x) * weights).sum(), x)
    torch.testing.assert_close(grad, ((up - down) / 2e-6).reshape(x.shape))


def test_a_file_of_another_depth_is_one_line(tmp_path):
    save_weights(build_tiny("restorers", "sesr", m=2).network, tmp_path / "m2.safetensors")
    part = tiny("restorers", "sesr", m=2, weights=str(tmp_path / "m2.safetensors"))
    assert part.build().scale == 2
    with pytest.raises(UserError, match="does not fit OfLuma"):
        tiny("restorers", "sesr", m=3, weights=str(tmp_path / "m2.safetensors")).build()


# Training


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        small = Image.fromarray(rng.integers(0, 256, (13, 15, 3), dtype=np.uint8))
        large = small.resize((300, 260), Image.Resampling.BICUBIC)
        (tmp_path / "photos").mkdir(exist_ok=True)
        large.save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def train(photographs, out, part, **recipe):
    recipe = {"steps": 30, "batch": 2, "crop": 12, "expansion": 32, **recipe}
    device = torch.device("cpu")
    train_part(part, recipe, images=photographs, held_out=2, out=out, device=device)
    return out / f"{part.name}.safetensors"


def test_what_is_trained_wide_is_kept_narrow(photographs, tmp_path):
    part = tiny("restorers", "sesr", **SIZES)
    weights = train(photographs, tmp_path / "out", part, learning_rate=1e-2, warmup=1)
    assert load_file(weights).keys() == part.build().network.state_dict().keys()
    trained = tiny("restorers", "sesr", **SIZES, weights=str(weights)).build()
    with torch.no_grad():
        assert trained(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    narrow = sum(parameter.numel() for parameter in trained.parameters())
    assert f"{narrow} parameters" in (tmp_path / "out" / "sesr.md").read_text()
    log = (tmp_path / "out" / "sesr.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == 30
    again = train(photographs, tmp_path / "again", part, learning_rate=1e-2, warmup=1)
    assert again.read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("kind", "recipe"), [("edsr", {}), ("sesr", {"start": "sesr"}), ("sesr", {"adversarial": {}})]
)
def test_an_expansion_of_anything_else_is_refused(photographs, tmp_path, kind, recipe):
    train(photographs, tmp_path, tiny("restorers", "sesr"), steps=1)  # what `start` names
    if "adversarial" in recipe:
        features = {"kind": "efficientnet-lite0", "layers": ["stage1"]}
        recipe = {"adversarial": {"features": features, "width": 4}}
    with pytest.raises(UserError, match="expansion is for SESR, from its first step"):
        train(photographs, tmp_path, tiny("restorers", kind), steps=1, **recipe)


@pytest.mark.parametrize(("name", "m"), [("sesr-m5-x2", 5), ("sesr-m11-x2", 11)])
def test_the_mini_track_s_are_of_the_published_depths(repository, name, m):
    track = load_config(repository / "config" / "config.yaml")
    part = track.part("restorer", name)
    assert part.options["m"] == m
    assert track.training.recipe("restorers", name)["expansion"] == {5: 256, 11: 64}[m]
