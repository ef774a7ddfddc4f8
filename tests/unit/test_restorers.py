"""Restorers: what every kind of them must do, and what some must."""

from typing import get_args

import numpy as np
import pytest
import torch
from tiny_parts import build_tiny, tiny

from puriflow.errors import UserError
from puriflow.planning import needs
from puriflow.registry import kinds
from puriflow.restorers.rescaling import Downsampler, UpDown, downsample_to, resized, weights_of

KINDS = kinds("restorers")
CLASSICAL = ("wavelet", "tvm", "nlm")
RESIZED = [("bicubic", True), ("bicubic", False), ("bilinear", True), ("area", False)]


def build(kind, **options):
    return build_tiny("restorers", kind, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_restorer_keeps_shape_range_and_type(kind, small_images):
    with torch.no_grad():
        out = build(kind)(torch.from_numpy(small_images))
    assert out.shape == small_images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_restorer_treats_each_image_alone(kind, small_images):
    restorer = build(kind)
    with torch.no_grad():
        together = restorer(torch.from_numpy(small_images))
        alone = restorer(torch.from_numpy(small_images[1:2]))
    # a CPU sums in another order for another number of images
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_flow_through_every_restorer_to_the_image_alone(kind, small_images):
    x = torch.from_numpy(small_images).requires_grad_()
    restorer = build(kind)
    restorer(x).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in restorer.parameters())


# Rounds of super-resolution (paper, Figure 6)


@pytest.mark.parametrize("kind", [k for k, known in KINDS.items() if "rounds" in known.options])
def test_rounds_are_the_restorer_on_its_own_image(kind, small_images):
    x = torch.from_numpy(small_images)
    once, thrice = build(kind), build(kind, rounds=3)
    with torch.no_grad():
        first = once(x)
        second = once(first)
        assert torch.equal(build(kind, rounds=2)(x), second)
        assert torch.equal(thrice(x), once(second))
    assert not torch.equal(first, second)
    assert thrice.state_dict().keys() == once.state_dict().keys()


def test_no_round_is_refused():
    with pytest.raises(UserError, match="rounds is 0, but must be a whole number from 1 to 1000"):
        build("bicubic", rounds=0)


# Some kinds


@pytest.mark.parametrize("kind", CLASSICAL)
def test_classical_denoisers_remove_noise(kind):
    smooth = np.linspace(0.2, 0.8, 32, dtype=np.float32)
    clean = np.broadcast_to(smooth, (1, 3, 32, 32)).copy()
    noise = np.random.default_rng(0).normal(0, 0.04, clean.shape).astype(np.float32)
    out = build(kind)(torch.from_numpy(clean + noise)).numpy()
    assert ((out - clean) ** 2).mean() < 0.6 * (noise**2).mean()


@pytest.mark.parametrize("method", get_args(Downsampler))
def test_downsamplers_are_linear_and_keep_constants(method):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 3, 16, 16, generator=generator)
    down = [downsample_to(x, (8, 8), method) for x in (a, b, 2 * a - 3 * b, torch.ones_like(a))]
    torch.testing.assert_close(down[2], 2 * down[0] - 3 * down[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(down[3], torch.ones(1, 3, 8, 8), atol=1e-6, rtol=0)


def test_the_control_is_close_to_the_identity_on_smooth_images():
    ramp = torch.linspace(0.1, 0.9, 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(build("bicubic")(ramp), ramp, atol=0.02, rtol=0)


def test_a_network_sees_its_own_range_of_colours():
    class Seen(torch.nn.Module):
        def forward(self, x):
            self.largest = x.max()
            return torch.nn.functional.interpolate(x, scale_factor=2)

    restorer = UpDown(Seen(), scale=2, downsample="area", rgb_range=255)
    images = torch.full((1, 3, 8, 8), 0.2)
    torch.testing.assert_close(restorer(images), images)
    assert restorer.network.largest == 0.2 * 255


@pytest.mark.parametrize("kind", ["bicubic", "edsr"])
def test_an_unknown_downsampler_names_the_nearest(kind):
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        build(kind, downsample="bicubc")
    with pytest.raises(UserError, match="did you mean 'bicubic'"):  # of a kind that types it str
        UpDown(torch.nn.Upsample(scale_factor=2), scale=2, downsample="bicubc")


def test_a_network_of_another_scale_is_refused():
    with pytest.raises(UserError, match="not by 3"):
        UpDown(torch.nn.Upsample(scale_factor=2), scale=3, downsample="area")(
            torch.rand(1, 3, 8, 8)
        )


def test_mdsr_refuses_a_scale_that_it_lacks():
    with pytest.raises(UserError, match="scales 2, 3, 4; 8"):
        build("mdsr", scale=8)


@pytest.mark.parametrize("size", [(12, 20), (5, 9), (24, 31)])
@pytest.mark.parametrize(("method", "antialias"), RESIZED)
def test_a_gpu_s_products_of_matrices_resize_as_torch_does(method, antialias, size):
    x = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    by_torch = resized(x, size, method, antialias=antialias)
    rows, columns = (
        weights_of(before, after, method, antialias)
        for before, after in zip(x.shape[-2:], size, strict=True)
    )
    torch.testing.assert_close(rows @ x @ columns.T, by_torch, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_bicubic_control_is_torch_s_upsampling(scale):
    x = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)(x)
    assert torch.equal(build_tiny("restorers", "bicubic", scale=scale).network(x), expected)


@pytest.mark.parametrize("kind", [k for k, kind in KINDS.items() if "weights" in kind.options])
def test_what_a_restorer_needs_is_counted_without_its_numbers(kind):
    found = needs({"restorer": tiny("restorers", kind)}, (32, 32), gradient=False)
    assert found is not None
    assert found.parameters > 0
