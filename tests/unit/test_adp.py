"""ADP: its step is the published one, it stops for good, and its size is differentiated."""

import pytest
import torch
from torch import nn

from puriflow.diffusion.denoisers import SigmaDenoiser
from puriflow.errors import UserError
from puriflow.networks.ncsnv2 import NCSNv2
from puriflow.networks.ncsnv2 import build as ncsnv2
from puriflow.purifiers.adp import DELTA, LONGEST, SHORTEST, build
from puriflow.randomness import ImageNoise


class Gaussian(nn.Module):
    """D of images that are all 0 on [-1, 1], told sigma; its s(x) is -x / sigma."""

    def forward(self, x, sigma):
        return 0 * x


class Bent(nn.Module):
    """D(x; sigma) whose s(x) bends otherwise everywhere."""

    def forward(self, x, sigma):
        return x - sigma * torch.sin(x)


class Zero(nn.Module):
    """D(x; sigma) that sees no noise."""

    def forward(self, x, sigma):
        return x


class Slow(nn.Module):
    """D(x; sigma) whose s(x) is constant: no curvature at all."""

    def forward(self, x, sigma):
        return x + sigma


def images(count=2):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def adp(network, **options):
    return build(network=SigmaDenoiser(network.double()), **options)


def test_a_step_takes_the_share_lambda_of_the_noise_of_a_gaussian():
    """On [0, 1] s = -(x - 1/2) / sigma, so that 1 - z = delta / sigma and alpha = lambda sigma."""
    purifier = adp(Gaussian(), step_lambda=0.05, n_iter=1)
    x = images() * 2 - 1
    torch.testing.assert_close(purifier.step(x), 0.95 * x)
    s = purifier.s(x)
    torch.testing.assert_close(s, -(x / 2) / 0.25)
    alpha = purifier.step_size(s, purifier.s(x + 2 * DELTA * s))
    torch.testing.assert_close(alpha, torch.full((2,), 0.05 * 0.25).double())


def test_steps_are_bounded_and_images_stop_for_good():
    x = (images() * 0).requires_grad_()
    moved = adp(Slow(), n_iter=1).step(x)
    torch.testing.assert_close(moved, torch.full_like(x, 2 * LONGEST))
    assert torch.autograd.grad(moved.sum(), x)[0].eq(1).all()  # a bound has no slope
    purifier = adp(Gaussian(), step_lambda=0.05, stop=0.05 * 0.25 + 1e-9)
    x = images() * 2 - 1
    assert torch.equal(purifier.step(x), x)
    purifier = adp(Gaussian(), step_lambda=0.05, stop=0.05 * 0.25 - 1e-9)
    assert not torch.equal(purifier.step(x), x)


def test_the_size_of_a_step_has_its_part_in_the_gradient():
    purifier = adp(Bent(), n_iter=2)
    x = images()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    sizes, size = [], purifier.step_size
    purifier.step_size = lambda s, ahead: sizes.append(size(s, ahead)) or sizes[-1]

    def purified(y):
        return purifier(y, ImageNoise(0, "test", range(2)))

    def gradient():
        y = x.clone().requires_grad_()
        return torch.autograd.grad((purified(y) * weights).sum(), y)[0]

    exact = gradient()
    assert all(((alpha > SHORTEST) & (alpha < LONGEST)).all() for alpha in sizes)  # no bound
    ahead, behind = (purified(x + sign * 1e-6 * way) for sign in (1, -1))
    slope = ((ahead - behind) * weights).sum() / 2e-6
    torch.testing.assert_close((exact * way).sum(), slope, rtol=1e-6, atol=1e-9)
    purifier.step_size = lambda s, ahead: size(s, ahead).detach()
    assert not torch.allclose(gradient(), exact, rtol=1e-3)


def test_where_the_score_is_zero_an_image_stays_as_it_is():
    x = (images() * 2 - 1).requires_grad_()
    moved = adp(Zero(), n_iter=1).step(x)
    assert torch.equal(moved, x)
    assert torch.autograd.grad(moved.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_a_network_that_cannot_see_so_near_is_refused(precision):
    network = ncsnv2(weights=None, ngf=4, precision=precision)
    with pytest.raises(UserError, match=rf"cannot see in {precision}: .*precision: float32"):
        build(network=network)


def test_ncsnv2_is_told_no_noise_level():
    torch.manual_seed(0)
    network = ncsnv2(weights=None, ngf=4)
    x = images(1).float()
    s = [network.score_ve(x, torch.tensor(sigma)) * sigma for sigma in (0.1, 2.0)]
    torch.testing.assert_close(*s, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"ncsnv2.* 7x8"):
        network.denoise(torch.rand(1, 3, 7, 8), torch.tensor(1.0))


def test_ncsnv2_has_the_keys_and_shapes_of_the_release():
    with torch.device("meta"):
        state = NCSNv2(ngf=128, pooling="max").state_dict()
    shapes = {
        "begin_conv.weight": (128, 3, 3, 3),
        "normalizer.alpha": (128,),
        "res1.1.conv2.bias": (128,),
        "res2.0.normalize2.gamma": (128,),
        "res2.0.conv2.conv.weight": (256, 128, 3, 3),
        "res2.0.shortcut.conv.weight": (256, 128, 1, 1),
        "res3.0.shortcut.weight": (256, 256, 3, 3),
        "refine1.adapt_convs.0.1_1_conv.weight": (256, 256, 3, 3),
        "refine2.msf.convs.1.bias": (256,),
        "refine3.crp.convs.1.weight": (128, 128, 3, 3),
        "refine4.output_convs.3_2_conv.weight": (128, 128, 3, 3),
        "end_conv.bias": (3,),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert "refine1.msf.convs.0.weight" not in state
    assert "res1.0.shortcut.weight" not in state
    assert "refine4.crp.convs.0.bias" not in state
