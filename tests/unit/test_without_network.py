"""Purifiers that ask no network: what they make of an image, against what their papers say."""

import pytest
import torch
from tiny_parts import build_tiny, tiny

import puriflow
from puriflow.purifiers.pixel_deflection import attention
from puriflow.purifiers.pixel_deflection import build as pixel_deflection
from puriflow.purifiers.tvm_mask import build as tvm_mask
from puriflow.purifiers.tvm_mask import differences, divergence
from puriflow.randomness import ImageNoise


def images(n=2, side=16):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def noise(n=2):
    return ImageNoise(0, "test", range(n))


def objective(z, x, kept, weight):
    down, right = differences(z)
    return float((kept * (z - x) ** 2).sum() + weight * (down**2 + right**2).sqrt().sum())


def test_tvm_has_the_least_objective():
    x = images().double()
    kept = (noise().uniform_like(x, 0, 1) >= 0.5).double()
    z = tvm_mask(n_iter=1000)(x, noise())
    least = objective(z, x, kept, 0.03)
    assert objective(tvm_mask()(x, noise()), x, kept, 0.03) < 1.001 * least
    for seed in range(20):
        way = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
        for size in (1e-1, 1e-2, 1e-3):
            assert objective(z + size * way, x, kept, 0.03) > 0.999999 * least


def test_divergence_is_the_negative_transpose_of_differences():
    x, down, right = (images().double() + k for k in range(3))
    for one in (down, right):
        one -= one.mean()
    a, b = differences(x)
    inner = (a * down + b * right).sum()
    torch.testing.assert_close(inner, -(x * divergence(down, right)).sum())


def test_tvm_keeps_what_is_kept_and_fills_what_is_dropped():
    x = images()
    torch.testing.assert_close(tvm_mask(drop=0, weight=1e-9)(x, noise()), x, atol=1e-4, rtol=0)
    flat = torch.full_like(x, 0.4)
    torch.testing.assert_close(tvm_mask(n_iter=1000)(flat, noise()), flat, atol=1e-2, rtol=0)


def test_a_deflected_value_is_one_of_its_colour_from_the_window():
    x, window = torch.arange(2 * 3 * 256.0).reshape(2, 3, 16, 16), 3
    out = pixel_deflection(deflections=100, window=window, denoise=False)(x, noise())
    changed = torch.nonzero(out != x)
    assert 150 < len(changed) <= 200
    assert set(changed[:, 1].tolist()) == {0, 1, 2}
    for n, c, row, column in changed.tolist():
        place = int(out[n, c, row, column]) - int(x[n, c, 0, 0])
        assert 0 <= place < 256
        # of a value that was itself deflected, the window is around where it was put
        assert max(abs(place // 16 - row), abs(place % 16 - column)) <= 2 * window


def test_wavelet_denoising_follows():
    x = images()
    deflected = pixel_deflection(denoise=False)(x, noise())
    denoised = tiny("restorers", "wavelet").build()(deflected)
    assert torch.equal(pixel_deflection()(x, noise()), denoised)


def test_where_a_classifier_looks_deflections_are_rarer():
    x, classifier = images(side=32), build_tiny("classifiers", "wide-resnet")
    seen = attention(classifier, x)
    assert seen.shape == (2, 32, 32)
    assert torch.equal(seen.amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(seen.amax((1, 2)), torch.ones(2))
    torch.testing.assert_close(attention(classifier, x[1:]), seen[1:], rtol=1e-3, atol=1e-3)
    chosen = pixel_deflection(deflections=20_000, denoise=False, classifier=classifier)
    row, column = chosen.places(x, *torch.rand(2, 2, 20_000, dtype=torch.float64))
    for one, rows, columns in zip(seen, row, column, strict=True):
        counts = torch.zeros(32, 32).index_put_((rows, columns), torch.ones(20_000), True)
        expected = (1 - one) / (1 - one).sum()
        assert float((counts / 20_000 - expected).abs().sum()) < 0.25
        assert counts.flatten()[one.flatten().argmax()] == 0


def test_a_classifier_of_two_classes_has_a_map_of_both():
    classifier = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    assert attention(classifier.requires_grad_(False), images()).shape == (2, 16, 16)


@pytest.mark.parametrize("name", ["tvm-mask-guo2018", "pixel-deflection-prakash2018"])
def test_they_purify_a_user_s_image_in_tiles(name):
    image = images(1, 300)[0].permute(1, 2, 0).numpy()
    purified = puriflow.purify(image, purifier=name)
    assert purified.shape == image.shape
    assert 0 < abs(purified - image).mean() < 0.5


def test_an_image_of_one_pixel_stays_as_it_is():
    assert torch.equal(pixel_deflection(denoise=False)(images(side=1), noise()), images(side=1))
