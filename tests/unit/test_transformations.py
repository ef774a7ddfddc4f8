"""Input transformations as restorers: bit depth, JPEG, Wiener filter, crop, and what they round."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import wiener
from tiny_parts import build_tiny
from torch.nn import functional as F

from puriflow.errors import UserError
from puriflow.metrics.cost import cost_of
from puriflow.restorers.jpeg import CHROMA, JPEG, LUMA
from puriflow.restorers.rounding import smooth_round

SUBSAMPLING = ("4:4:4", "4:2:2", "4:2:0")


def build(kind, **options):
    return build_tiny("restorers", kind, **options)


def noise(*shape, low=0.1, high=0.9):
    """Random images in float64, away from where a clamp would be."""
    generator = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def picture(height=40, width=53):
    """A coarse random image, smooth as photographs are, in whole 255ths."""
    coarse = noise(1, 3, 5, 7, low=0, high=1)
    large = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return large.mul(255).round() / 255


def central_differences(function, x, h=1e-6):
    """The gradient of the sum of a function of x, an entry at a time."""
    steps = h * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    up, down = (function(x + sign * steps).sum((1, 2, 3)) for sign in (1, -1))
    return ((up - down) / (2 * h)).reshape(x.shape)


def weighted(function, shape):
    """A function behind fixed weights, so that no two of its values count the same."""
    weights = noise(*shape)
    return lambda x: function(x) * weights


def gradient_of(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


# Exact gradients


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("wiener", {"window": 3, "noise": 0.1}),
        ("wiener", {"window": 5}),
        ("crop-rescale", {"crop": 4}),
        ("crop-rescale", {"crop": 5}),
    ],
)
def test_the_gradient_of_what_has_one_is_that_of_central_differences(kind, options):
    x = noise(1, 3, 6, 8)
    function = weighted(build(kind, **options), x.shape)
    torch.testing.assert_close(gradient_of(function, x), central_differences(function, x))


@pytest.mark.parametrize("kind", ["bit-depth", "jpeg"])
def test_what_rounds_is_computed_as_it_is_and_differentiated_as_asked(kind):
    x = noise(1, 3, 9, 10)
    straight, smooth = (build(kind, gradient=g) for g in ("straight-through", "smooth"))
    assert torch.equal(straight(x), smooth(x))
    assert smooth(x).dtype == x.dtype
    torch.testing.assert_close(gradient_of(straight, x), torch.ones_like(x))
    assert not torch.allclose(gradient_of(smooth, x), torch.ones_like(x), atol=0.1)


def smooth_function(kind, restorer):
    """What the smooth gradient is the gradient of."""
    if kind == "jpeg":
        return restorer.smooth
    return lambda x: restorer.reduced(x, smooth_round)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("bit-depth", {"depth": d}) for d in (1, 3, 8)]
    + [("jpeg", {"subsampling": s, "quality": q}) for s in SUBSAMPLING for q in (30, 90)],
)
def test_the_smooth_gradient_is_that_of_the_smooth_function(kind, options):
    x = noise(1, 3, 9, 10, low=0.3, high=0.7)
    restorer = build(kind, gradient="smooth", **options)
    exact = central_differences(weighted(smooth_function(kind, restorer), x.shape), x, h=1e-7)
    found = gradient_of(weighted(restorer, x.shape), x)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_fewer_bits_have_the_same_signs_of_either_gradient():
    x = noise(1, 3, 9, 10)
    straight, smooth = (
        gradient_of(weighted(build("bit-depth", gradient=g), x.shape), x)
        for g in ("straight-through", "smooth")
    )
    assert torch.equal(straight.sign(), smooth.sign())


def test_the_smooth_rounding_is_shin_and_song_s():
    x = torch.tensor([-1.25, 0, 0.1, 0.4, 0.6, 2], dtype=torch.float64)
    wanted = torch.tensor([-1 - 0.25**3, 0, 1e-3, 0.4**3, 1 - 0.4**3, 2], dtype=torch.float64)
    torch.testing.assert_close(smooth_round(x), wanted)
    slope = torch.tensor([3 / 16, 0, 0.03, 0.48, 0.48, 0], dtype=torch.float64)
    torch.testing.assert_close(gradient_of(smooth_round, x), slope)


# What each of them computes


def test_bits_are_those_of_the_paper_s_formula():
    x = torch.tensor([0, 0.06, 0.07, 0.5, 0.94, 1]).expand(1, 3, 1, 6)
    wanted = torch.tensor([0, 0, 1 / 8, 1 / 2, 1, 1]).expand(1, 3, 1, 6)
    assert torch.equal(build("bit-depth", depth=3)(x), wanted)


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("quality", [20, 75])
def test_a_jpeg_is_what_pillow_writes(quality, subsampling):
    x = picture()
    pixels = x[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    shown = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    out = build("jpeg", quality=quality, subsampling=subsampling)(x)
    torch.testing.assert_close(out[0], shown / 255, check_dtype=False)


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_the_differentiable_jpeg_is_the_real_one_but_for_rounding(quality, subsampling):
    x, jpeg = picture(), JPEG(quality, subsampling, "smooth")
    ours, real = jpeg.coded(x, torch.round), jpeg.compressed(x)
    # A coefficient half-way between two may fall to either, and moves its whole block.
    assert (ours - real).abs().median() < 1 / 255
    others = [JPEG(quality, s, "smooth").compressed(x) for s in SUBSAMPLING if s != subsampling]
    nearest = (ours - real).square().mean()
    assert all((ours - other).square().mean() > nearest for other in (x, *others))


def test_the_tables_of_every_quality_are_libjpeg_s():
    image = Image.new("RGB", (8, 8))
    for quality in range(1, 101):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        written = Image.open(file).quantization
        for number, table in enumerate((LUMA, CHROMA)):
            steps = JPEG(quality, "4:2:0", "smooth")._steps(torch.tensor(table))
            # Pillow has had them in two orders
            assert sorted(written[number]) == sorted(steps.flatten().int().tolist())


def test_a_lower_quality_loses_more():
    x = picture()
    lost = [(build("jpeg", quality=q)(x) - x).square().mean() for q in (10, 50, 75, 95)]
    assert lost == sorted(lost, reverse=True)


@pytest.mark.parametrize("window", [3, 5])
def test_the_wiener_filter_is_scipy_s_within_the_border(window):
    x = noise(2, 3, 16, 17)
    inner = slice(window // 2, -(window // 2))
    out = build("wiener", window=window, noise=0.2)(x)
    for image, filtered in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        wanted = torch.from_numpy(wiener(image.numpy(), window, noise=0.2**2))
        torch.testing.assert_close(filtered[inner, inner], wanted[inner, inner])


def test_the_wiener_filter_estimates_the_noise_of_each_colour():
    x = noise(1, 3, 16, 16)
    x[:, 1] = 0.5  # a flat colour stays as it is, and has no say in the others
    out = build("wiener", window=5)(x)
    torch.testing.assert_close(out[:, 1], x[:, 1])
    filtered = build("wiener", window=5)
    padded = F.pad(x[:, :1], [2] * 4, mode="replicate").unfold(2, 5, 1).unfold(3, 5, 1)
    own = padded.var((4, 5), unbiased=False).mean().sqrt().item()
    assert own > 0.1
    filtered.noise = own
    torch.testing.assert_close(out[:, :1], filtered(x[:, :1]))


def test_the_wiener_filter_removes_noise_and_keeps_edges():
    edge = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    edge[..., 16:] = 1
    seen = edge + 0.05 * torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))
    seen = seen.clamp(0, 1)
    out = build("wiener", window=5, noise=0.05)(seen)
    assert (out - edge).square().mean() < 0.6 * (seen - edge).square().mean()
    assert (out[..., 17] - out[..., 14]).min() > 0.8


def test_a_crop_is_the_centre_in_the_image_s_proportions():
    ramp = torch.linspace(0, 1, 24, dtype=torch.float64).expand(1, 3, 12, 24)
    out = build("crop-rescale", crop=6)(ramp)
    assert out.shape == ramp.shape
    # 12 of 24 columns, the middle ones, at half the slope but for the border
    slope = torch.full((1, 3, 12), 0.5 / 23, dtype=torch.float64)
    torch.testing.assert_close(out[..., 12] - out[..., 11], slope)
    torch.testing.assert_close(out.mean((2, 3)), ramp.mean((2, 3)))
    whole = build("crop-rescale", crop=12)(ramp)
    torch.testing.assert_close(whole, ramp)


def test_mustafa_is_its_three_steps_and_back_to_the_image_s_size():
    x = picture(16, 20).float()
    mustafa = build("mustafa", sigma=0.02, quality=90)
    edsr = build("edsr", n_feats=8, n_resblocks=1)
    edsr.load_state_dict(mustafa.upscaling.state_dict())
    denoised = build("wavelet", sigma=0.02)(x)
    saved = build("jpeg", quality=90)(denoised)
    assert not torch.equal(denoised, x)
    assert torch.equal(mustafa(x), edsr(saved))


@pytest.mark.parametrize("gradient", ["straight-through", "smooth"])
def test_mustafa_s_gradient_is_exact_but_for_wavelets_and_rounding(gradient):
    x = picture(16, 20)
    mustafa = build("mustafa", gradient=gradient).double()
    denoised = mustafa.denoising(x).double()
    saved = mustafa.compression(denoised)
    wanted = gradient_of(mustafa.upscaling, saved)
    if gradient == "smooth":
        smooth = denoised.requires_grad_()
        (wanted,) = torch.autograd.grad(mustafa.compression.smooth(smooth), smooth, wanted)
    torch.testing.assert_close(gradient_of(mustafa, x), wanted)


def test_mustafa_s_costs_are_edsr_s():
    costs = [
        cost_of(build(kind, n_feats=8, n_resblocks=1), side=16).macs for kind in ("edsr", "mustafa")
    ]
    assert costs[0] == costs[1] > 0


# What they refuse


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("jpeg", {"quality": 0}, "quality is 0, but must be a whole number from 1 to 100"),
        ("jpeg", {"quality": 101}, "quality is 101, but must be a whole number from 1 to 100"),
        ("jpeg", {"subsampling": "4:2:1"}, "unknown subsampling .* did you mean '4:2:"),
        ("jpeg", {"gradient": "smoth"}, "unknown gradient .* did you mean 'smooth'"),
        ("bit-depth", {"depth": 0}, "depth is 0, but must be a whole number from 1 to 16"),
        ("wiener", {"window": 4}, "window is 4, but must be an odd number from 3 to 99"),
        ("wiener", {"window": 1}, "window is 1, but must be an odd number from 3 to 99"),
        ("wiener", {"noise": 10}, r"noise is 10, but must be .* of colours on \[0, 1\]"),
        ("mustafa", {"quality": 101}, "quality is 101, but must be a whole number"),
        ("mustafa", {"wavelet": "db0"}, "unknown wavelet 'db0': did you mean"),
        ("crop-rescale", {"crop": 0}, "crop is 0, but must be a whole number from 1"),
    ],
)
def test_a_wrong_option_is_one_line(kind, options, says):
    with pytest.raises(UserError, match=says) as refused:
        build(kind, **options)
    assert len(str(refused.value).splitlines()) == 1


def test_a_crop_larger_than_the_image_is_one_line():
    with pytest.raises(UserError, match=r"^crop is 90, but the image is 32x40$"):
        build("crop-rescale", crop=90)(torch.zeros(1, 3, 32, 40))
