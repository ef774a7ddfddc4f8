"""PixelDefend: its density, its sequential decoding, and what it is likelier than."""

import pytest
import torch

from puriflow.errors import UserError
from puriflow.purifiers.pixeldefend import Mixture, PixelCNN, build, scaled
from puriflow.randomness import ImageNoise


def network(**options):
    torch.manual_seed(0)
    sizes = {"image_size": 6, "width": 4, "blocks": 2, "mixtures": 3, "dropout": 0.0}
    return PixelCNN(**{**sizes, **options}).eval().requires_grad_(False)


def whole(count=2, side=6):
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0))


def test_the_probabilities_of_a_value_add_up_to_one():
    parameters = torch.randn(1, 30, 1, 1, generator=torch.Generator().manual_seed(0))
    mixture = Mixture(parameters, 3)
    every = scaled(torch.arange(256.0))[None, None, None]  # along the width
    given = [torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), -0.6)]
    for colour in range(3):
        each = mixture.log_bin(colour, every, given[:colour]).exp()
        torch.testing.assert_close(each.sum(3), torch.ones(1, 3, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "given"), [(-4, 50), (-5, 150), (-6, 170), (-7, 10)])
def test_far_from_the_mean_the_nearest_value_is_the_likeliest(scale, given):
    """In float32 the probabilities of all of them are zero, and in float64 of some."""
    parameters = torch.zeros(1, 10, 1, 1)
    parameters[:, 1:4], parameters[:, 4:7] = 0.6, scale  # means at 204
    window = scaled(torch.arange(given - 16.0, given + 17))
    mixture = Mixture(parameters, 1)
    likeliest = mixture.likeliest(window.expand(1, 3, -1))
    torch.testing.assert_close(likeliest, window.amax().expand(1, 3))
    x = torch.zeros(1, 3, 1, 1)
    parameters = parameters.requires_grad_()
    (gradient,) = torch.autograd.grad(Mixture(parameters, 1).log_likelihood(x).sum(), parameters)
    assert (gradient[:, 1:4] < 0).all()  # of the means: lower ones are likelier


def test_a_window_of_nothing_and_one_at_the_end_of_the_values():
    purifier = build(weights=None, image_size=6, width=4, blocks=1, mixtures=2, eps_defend=0).eval()
    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    rounded = (x * 255).round() / 255
    torch.testing.assert_close(purifier(x, ImageNoise(0, "test", [0])), rounded)
    net = network()
    for value in (0, 255):
        decoded = net(torch.full((1, 3, 6, 6), float(value)), 20)
        assert decoded.min() >= 0
        assert decoded.max() <= 255


def test_copies_of_an_image_are_decoded_once(monkeypatch):
    purifier = build(weights=None, image_size=6, width=4, blocks=1, mixtures=2).eval()
    asked, forward = [], PixelCNN.forward
    monkeypatch.setattr(
        PixelCNN, "forward", lambda self, x, eps: (asked.append(len(x)), forward(self, x, eps))[1]
    )
    x = whole(3).float() / 255
    folded = purifier(x.repeat(4, 1, 1, 1), ImageNoise(0, "test", range(12)))
    assert asked == [3]
    assert torch.equal(folded, purifier(x, ImageNoise(0, "test", range(3))).repeat(4, 1, 1, 1))


def test_a_value_depends_on_those_before_it_alone():
    net, x = network().double(), whole(1).double()
    row, column = 2, 3

    before = net.log_likelihood(x)
    changed = x.clone()
    changed[:, :, row, column] = 255 - changed[:, :, row, column]
    # of an image that ends there, all else being equal, what came before has the same terms
    full, other = per_pixel(net, x), per_pixel(net, changed)
    same = torch.ones(6, 6, dtype=torch.bool)
    same[row, column:], same[row + 1 :] = False, False
    assert torch.equal(full[0][same], other[0][same])
    assert not torch.allclose(full[0][~same], other[0][~same])
    torch.testing.assert_close(full.flatten(1).sum(1), before)


def per_pixel(net, values):
    """The log likelihood of each pixel (N, H, W), by the passes of a whole image."""
    found = []
    original = Mixture.log_likelihood
    try:
        Mixture.log_likelihood = lambda self, x: found.append(original(self, x)) or found[-1]
        net.log_likelihood(values)
    finally:
        Mixture.log_likelihood = original
    return found[0]


def test_decoding_is_greedy_and_sequential():
    """Value by value the likeliest in its window, by the density of the whole image so far."""
    net, given, eps = network().double(), whole(1, 6).double(), 3
    decoded = net(given, eps)
    assert (decoded - given).abs().max() == eps  # a window is used up to its end
    assert (decoded == decoded.round()).all()
    assert decoded.min() >= 0
    assert decoded.max() <= 255
    for row, column in ((0, 0), (2, 4), (5, 5)):
        for colour in range(3):
            trial = decoded.repeat(2 * eps + 1, 1, 1, 1)
            own = given[0, colour, row, column]
            window = (own + torch.arange(-eps, eps + 1)).clamp(0, 255)
            trial[:, colour, row, column] = window
            score = colour_terms(net, trial, row, column, colour)
            assert window[score.argmax()] == decoded[0, colour, row, column]


def colour_terms(net, values, row, column, colour):
    """The log probability of a colour of a pixel (N,), given all that is before it."""
    found = []
    original = Mixture.log_likelihood

    def seen(self, x):
        weights, colours = self.log_weights, list(x.split(1, 1))
        for c in range(colour):
            weights = weights + self.log_bin(c, colours[c], colours[:c])
        terms = weights + self.log_bin(colour, colours[colour], colours[:colour])
        found.append((terms.logsumexp(1) - weights.logsumexp(1))[:, row, column])
        return original(self, x)

    try:
        Mixture.log_likelihood = seen
        net.log_likelihood(values)
    finally:
        Mixture.log_likelihood = original
    return found[0]


def test_a_purified_image_is_near_and_likelier():
    purifier = build(weights=None, image_size=6, width=4, blocks=1, mixtures=2, eps_defend=4)
    purifier.eval()
    x = whole().float() / 255
    purified = purifier(x, ImageNoise(0, "test", range(2)))
    assert (purified - x).abs().max() <= 4 / 255 + 1e-6
    density = purifier.network.log_likelihood
    assert (density((purified * 255).round()) > density(x * 255)).all()
    alone = purifier(x[1:], ImageNoise(0, "test", [1]))
    assert torch.equal(alone, purified[1:])


def test_an_attack_sees_the_identity():
    purifier = build(weights=None, image_size=6, width=4, blocks=1, mixtures=2).eval()
    x = (whole().float() / 255).requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    purified = purifier(x, ImageNoise(0, "test", range(2)))
    (gradient,) = torch.autograd.grad((purified * weights).sum(), x)
    assert torch.equal(gradient, weights)


def test_images_of_another_size_are_refused():
    purifier = build(weights=None, image_size=6, width=4, blocks=1, mixtures=2)
    with pytest.raises(UserError, match="this PixelCNN takes 6x6 images, but these are 8x8"):
        purifier(torch.rand(1, 3, 8, 8), ImageNoise(0, "test", [0]))
