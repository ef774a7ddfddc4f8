import numpy as np
import pytest
import torch

from puriflow import registry
from puriflow.errors import UserError
from puriflow.restorers.rescaling import DOWNSAMPLERS, UpDown, downsample_to

TINY = {
    "edsr": {"features": 8, "blocks": 1},
    "mdsr": {"features": 8, "blocks": 1},
    "drln": {"features": 8, "groups": [1, 1], "reduction": 4},
    "esrgan": {"features": 8, "blocks": 1, "growth": 4},
}
CLASSICAL = ("wavelet", "tvm", "nlm")


def build(kind, **options):
    spec = {"kind": kind, **options}
    if kind in TINY:
        spec = {"weights": None, **TINY[kind], **spec}
    return registry.build("restorers", kind, spec)


@pytest.mark.parametrize("kind", [*TINY, *CLASSICAL, "bicubic"])
def test_every_restorer_keeps_shape_range_and_type(kind, small_images):
    torch.manual_seed(0)
    with torch.no_grad():
        out = build(kind)(torch.from_numpy(small_images))
    assert out.shape == small_images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("kind", CLASSICAL)
def test_classical_denoisers_remove_noise(kind):
    smooth = np.linspace(0.2, 0.8, 32, dtype=np.float32)
    clean = np.broadcast_to(smooth, (1, 3, 32, 32)).copy()
    noise = np.random.default_rng(0).normal(0, 0.04, clean.shape).astype(np.float32)
    out = build(kind)(torch.from_numpy(clean + noise)).numpy()
    assert ((out - clean) ** 2).mean() < 0.6 * (noise**2).mean()


@pytest.mark.parametrize("kind", CLASSICAL)
def test_a_classical_denoiser_treats_each_image_alone(kind, small_images):
    restorer = build(kind)
    together = restorer(torch.from_numpy(small_images))
    assert torch.equal(together[1:2], restorer(torch.from_numpy(small_images[1:2])))


@pytest.mark.parametrize("method", DOWNSAMPLERS)
def test_downsamplers_are_linear_and_keep_constants(method):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 3, 16, 16, generator=generator)
    down = [downsample_to(x, (8, 8), method) for x in (a, b, 2 * a - 3 * b, torch.ones_like(a))]
    torch.testing.assert_close(down[2], 2 * down[0] - 3 * down[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(down[3], torch.ones(1, 3, 8, 8), atol=1e-6, rtol=0)


def test_the_control_is_close_to_the_identity_on_smooth_images():
    ramp = torch.linspace(0.1, 0.9, 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(build("bicubic")(ramp), ramp, atol=0.02, rtol=0)


def test_gradients_flow_through_up_and_down(small_images):
    torch.manual_seed(0)
    x = torch.from_numpy(small_images).requires_grad_()
    build("edsr")(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_an_unknown_downsampler_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        build("bicubic", downsample="bicubc")


def test_a_network_of_another_scale_is_refused():
    with pytest.raises(UserError, match="not by 3"):
        UpDown(torch.nn.Upsample(scale_factor=2), scale=3, downsample="area")(
            torch.rand(1, 3, 8, 8)
        )


def test_mdsr_refuses_a_scale_that_it_lacks():
    with pytest.raises(UserError, match="scales 2, 3, 4; 8"):
        build("mdsr", scale=8)
