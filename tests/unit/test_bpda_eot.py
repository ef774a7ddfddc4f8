"""BPDA+EOT, and ScoreOpt's PGD+EOT with its verdict; tests/parity has DiffPure's numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow import compute
from puriflow.attacks import bpda_eot
from puriflow.attacks.base import Batch
from puriflow.defence import Defence
from puriflow.diffusion.denoisers import Denoiser, VPDenoiser, append_dims
from puriflow.errors import UserError
from puriflow.purifiers.osd import OSD
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.randomness import AttackNoise, ImageNoise

INDICES = [3, 8]


class Net(Denoiser):
    """A denoiser whose answer depends on the level."""

    def eps(self, x, t):
        raise AssertionError

    def denoise(self, x, sigma):
        return torch.tanh(x) / (1 + append_dims(sigma, x))


class Certain(nn.Module):
    """A purifier whose answer is one class, and whose surrogate's is another."""

    def __init__(self, own, surrogate):
        super().__init__()
        self.own, self.other = own, surrogate

    def forward(self, x, noise):
        return 0 * x + self.own

    def surrogate(self):
        return Certain(self.other, self.other)


class Brightness(nn.Module):
    """Class 0 of dark images, 1 of light ones."""

    def forward(self, x):
        light = x.mean((1, 2, 3))
        return torch.stack([1 - light, light], 1)


def batch(defence):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    return Batch(defence, images, torch.tensor([0, 0]), AttackNoise(0, INDICES))


def attack(**options):
    return bpda_eot.build(eps="8/255", n_iter=2, eot_iter=3, n_draws=5, **options)


def defence(sigma=0.5):
    torch.manual_seed(0)
    restorer = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())
    options = {"method": "O", "n_iter": 2, "learning_rate": 0.1, "shared": False, "resize": None}
    purifier = ScoreOpt(Net(nn.Identity()), sigma=sigma, **options)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    return Defence(restorer, purifier, classifier).double().requires_grad_(False)


@pytest.mark.parametrize("draws", [1, 2, 3])  # at once
@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_the_surrogate_s_gradient_is_of_one_shot_denoising_at_scoreopt_s_own_level(
    sigma, draws, monkeypatch
):
    b = batch(defence(sigma))
    monkeypatch.setattr(compute, "FOLDED", draws * b.images[:, 0].numel())
    x = b.images.clone().requires_grad_()
    answers = []
    for draw in range(3):
        noise = ImageNoise(0, "attack 7 surrogate", INDICES, [draw])
        restored = b.victim.restorer(x) * 2 - 1
        denoised = torch.tanh(restored + sigma * noise.normal_like(x)) / (1 + sigma)
        answers.append(b.victim.classifier(((denoised + 1) / 2).clamp(0, 1)))
    loss = F.cross_entropy(torch.stack(answers).mean(0), b.labels, reduction="sum")
    # of each of three copies, the mean
    expected = torch.autograd.grad(loss, x)[0] / 3
    got = attack(gradient="surrogate").surrogate_gradient(b, b.images, 7)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("draws", [1, 2, 3])  # at once
def test_the_full_gradient_is_of_the_mean_logits_of_the_copies_that_are_judged(draws, monkeypatch):
    b, exact = batch(defence()), attack(gradient="full")
    monkeypatch.setattr(compute, "FOLDED", draws * b.images[:, 0].numel())
    x = b.images.clone().requires_grad_()
    answers = [
        b.victim.classify(b.victim.purified(x, ImageNoise(0, "attack 0", INDICES, [draw])))
        for draw in range(3)
    ]
    loss = F.cross_entropy(torch.stack(answers).mean(0), b.labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, x)
    after = exact.step(b, exact.begin(b), 0)
    assert torch.equal(after["x"], exact.ball.sign_step(b.images, expected, 2 / 255, b.images))
    identity = attack().step(b, attack().begin(b), 0)
    assert not torch.equal(after["x"], identity["x"])


def test_a_step_goes_up_the_surrogate_s_loss():
    b, scoreopt = batch(defence()), attack(gradient="surrogate")
    grad = scoreopt.surrogate_gradient(b, b.images, 0)
    after = scoreopt.step(b, scoreopt.begin(b), 0)
    expected = (b.images + 2 / 255 * grad.sign()).clamp(0, 1)
    assert torch.equal(after["x"], scoreopt.ball.project(expected, b.images))


@pytest.mark.parametrize(("own", "surrogate"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_verdict_is_of_the_purifier_and_not_of_its_surrogate(own, surrogate):
    b = batch(Defence(None, Certain(own, surrogate), Brightness()))
    state = attack(gradient="surrogate")(b)
    assert state["success"].tolist() == [own == 1] * 2
    # passes of the victim: three copies at each of three steps, or three and then five fresh ones
    assert state["queries"].tolist() == [8 if own == 1 else 9] * 2


class Draws(nn.Module):
    """A purifier whose draws of some words are wrong."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, x, noise):
        return 0 * x + float(noise in self.wrong)

    def surrogate(self):
        return Draws(())


class Words(AttackNoise):
    def victim(self, step, draws=(0,)):
        return step

    def take(self, positions):
        return Words(self.seed, [self.indices[i] for i in positions])


@pytest.mark.parametrize("gradient", ["identity", "surrogate", "full"])
@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        (["1"], False),
        (["0 again", "2"], False),
        (["1", "1 again"], True),
        (["0 again"], False),
        (["0", "0 again"], True),
        (["0"], False),
    ],
)
def test_a_success_of_a_step_must_be_confirmed_by_fresh_draws(gradient, wrong, broken):
    b = batch(Defence(None, Draws(wrong), Brightness()))
    b = Batch(b.victim, b.images, b.labels, Words(0, INDICES))
    state = attack(gradient=gradient)(b)
    assert state["success"].tolist() == [broken] * 2
    # the first step is at the clean image
    assert state["clean_success"].tolist() == [wrong == ["0", "0 again"]] * 2


def test_a_purifier_without_a_surrogate_is_refused():

    b = batch(Defence(None, OSD(VPDenoiser(nn.Identity()), t=9), Brightness()))
    with pytest.raises(
        UserError, match="OSD has no surrogate of its own, as ScoreOpt has"
    ) as error:
        attack(gradient="surrogate").begin(b)
    assert "\n" not in str(error.value)


def test_without_a_purifier_the_rest_is_differentiated():
    b = batch(Defence(None, None, nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()))
    there, around = (attack(gradient=g)(b)["x"] for g in ("surrogate", "identity"))
    assert torch.equal(there, around)
