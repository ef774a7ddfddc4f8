"""ME-Net: what it keeps, what it estimates, and the exact gradient through singular vectors."""

import pytest
import torch

from puriflow.errors import UserError
from puriflow.purifiers.me_net import MENet, Shrunk, Truncated, build
from puriflow.randomness import ImageNoise


def images(count=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 8, 8, generator=generator, dtype=dtype)


def noise(count=2):
    return ImageNoise(0, "test", range(count))


def svd(a):
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    return u, s, vh


def test_singular_values_are_cut_and_shrunk():
    a = torch.randn(2, 6, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vh = svd(a)
    torch.testing.assert_close(Truncated.apply(a, 4), u[..., :4] * s[:, None, :4] @ vh[:, :4])
    tau = torch.tensor([1.5, 3.0], dtype=torch.float64)
    less = (s - tau[:, None]).clamp_min(0)
    assert (less == 0).any()
    torch.testing.assert_close(Shrunk.apply(a, tau), u * less[:, None] @ vh)


def test_their_gradients_are_exact():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor([1.2, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: Truncated.apply(a, 3), (a,))
    assert torch.autograd.gradcheck(Shrunk.apply, (a, tau))


def test_equal_singular_values_have_a_gradient():
    """A whole decomposition's gradient would be infinite: of 1 / (s_i^2 - s_j^2)."""
    a = torch.eye(4, 6, dtype=torch.float64)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(Shrunk.apply(a, torch.tensor([0.5]).double()).sum(), a)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("channels", ["concat", "separate"])
def test_usvt_truncates_what_was_kept_over_its_share(channels):
    purifier = build(keep=0.6, channels=channels)
    x, kept = images(), purifier.kept(images(), noise())
    assert kept.shape[1] == (3 if channels == "concat" else 1)
    masked = (x * 2 - 1) * kept
    if channels == "concat":
        masked, shares = torch.cat(masked.unbind(1), 2), kept.mean((1, 2, 3))[:, None, None]
    else:
        masked, shares = masked.flatten(0, 1), kept.expand(2, 3, 8, 8).flatten(0, 1).mean((1, 2))
        shares = shares[:, None, None]
    u, s, vh = svd(masked)
    estimated = u[..., :6] * s[:, None, :6] @ vh[:, :6] / shares  # int(0.8 * 8)
    if channels == "concat":
        estimated = torch.stack(estimated.split(8, 2), 1)
    expected = (estimated.view(2, 3, 8, 8).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(purifier(x, noise()), expected)


def test_the_nuclear_norm_is_at_its_minimum():
    """No small change of the estimate lowers mu |X|_* + sum mask (X - A)^2."""
    purifier = build(method="nuclear-norm", keep=0.5, mu=0.3, n_iter=2000)
    a = images()[:, 0] * 2 - 1
    kept = (torch.rand(a.shape, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    best = purifier.estimated(a, kept)

    def objective(x):
        return 0.3 * torch.linalg.matrix_norm(x, "nuc") + (kept * (x - a) ** 2).sum((1, 2))

    for seed in range(20):
        way = torch.randn(a.shape, generator=torch.Generator().manual_seed(seed)).double()
        assert (objective(best + 1e-3 * way) > objective(best)).all()
    assert (objective(best) < objective(kept * a)).all()


def test_soft_impute_puts_back_what_was_kept():
    purifier = build(method="soft-impute", keep=0.5, n_iter=50)
    x, kept = images(), purifier.kept(images(), noise()).bool()
    purified = purifier(x, noise())
    torch.testing.assert_close(purified[kept], x[kept])
    assert not torch.allclose(purified[~kept], x[~kept], atol=0.05)
    low_rank = torch.rand(1, 8, 1, generator=torch.Generator().manual_seed(2)).double()
    a = (low_rank @ low_rank.mT).expand(1, 8, 8)
    mask = kept[:1, 0].double()
    error = (purifier.estimated(a, mask) - a).abs().mean()
    assert error < 0.6 * ((1 - mask) * a).abs().mean()  # it shrinks, and half is missing


@pytest.mark.parametrize("method", ["usvt", "nuclear-norm", "soft-impute"])
def test_the_gradient_through_every_method_is_that_of_differences(method):
    purifier = build(method=method, keep=0.7, n_iter=5)
    x = (images() * 0.6 + 0.2).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    (gradient,) = torch.autograd.grad((purifier(x, noise()) * weights).sum(), x)
    ahead, behind = (purifier(x + sign * 1e-6 * way, noise()) for sign in (1, -1))
    slope = ((ahead - behind) * weights).sum() / 2e-6
    torch.testing.assert_close((gradient * way).sum(), slope, rtol=1e-5, atol=1e-8)


def test_no_matrix_is_left_without_a_value():
    purifier = MENet(
        keep=0.01, keep_delta=0.0, method="usvt", channels="separate", rank=0.8, mu=1, n_iter=1
    )
    many = torch.rand(50, 3, 4, 4)
    kept = purifier.kept(many, noise(50))
    assert (kept.flatten(1).sum(1) >= 1).all()
    assert purifier(many, noise(50)).isfinite().all()


def test_the_chance_of_an_image_is_drawn_while_a_classifier_is_trained():
    purifier = build(keep=0.5, keep_delta=0.3)
    shares = purifier.kept(torch.rand(40, 3, 16, 16), noise(40)).mean((1, 2, 3))
    assert shares.min() < 0.35
    assert shares.max() > 0.65


@pytest.mark.parametrize("method", ["usvt", "nuclear-norm", "soft-impute"])
@pytest.mark.parametrize("keep", [0.01, 1.0])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_images_of_one_colour_have_finite_estimates_and_gradients(method, keep, value):
    x = torch.full((2, 3, 8, 8), value).requires_grad_()
    purified = build(method=method, keep=keep, n_iter=5)(x, noise())
    assert purified.isfinite().all()
    assert torch.autograd.grad(purified.sum(), x)[0].isfinite().all()


def test_a_rank_is_one_at_least_and_a_chance_lies_between_0_and_1():
    purified = build(keep=1.0, rank=0.02)(images(), noise())  # int(0.02 * 8) is 0
    assert purified.std() > 0.05
    for keep, delta in ((0.5, 0.5), (0.9, 0.2), (0.1, 1.0)):
        with pytest.raises(UserError, match=rf"keep is {keep} \+- {delta:g}, but must lie above 0"):
            build(keep=keep, keep_delta=delta)
