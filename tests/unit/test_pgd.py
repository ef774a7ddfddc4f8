"""PGD on tiny victims, and image by image beside torchattacks' PGD."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks
from puriflow import compute
from puriflow.attacks import pgd
from puriflow.attacks.base import Batch
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise, ImageNoise
from puriflow.registry import part_of

EPS, STEP_SIZE = 8 / 255, 2 / 255
INDICES = [4, 9, 2, 7]


class Recording(nn.Module):
    """A restorer that restores nothing and remembers its inputs: the iterates of an attack."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return x


class Noisy(nn.Module):
    """A purifier of noise alone."""

    def forward(self, x, noise):
        return x + 0.1 * noise.normal_like(x)


def batch(purifier=None, dtype=torch.float64, indices=INDICES, fixed=False):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    victim = Defence(Recording(), purifier, net).to(dtype).eval().requires_grad_(False)
    noise = AttackNoise(0, indices, fixed=fixed)
    return Batch(victim, images, torch.tensor([0, 1, 2, 3]), noise)


def attack(**options):
    return pgd.build(**{"eps": "8/255", "step_size": "2/255", "n_iter": 7, **options})


def test_it_is_madrys_iteration_from_each_images_own_start():
    b = batch()
    x = b.images + ImageNoise(0, "attack", INDICES).uniform_like(b.images, -EPS, EPS)
    x = x.clamp(0, 1)
    for _ in range(7):  # written out from paper Eq. 4
        x.requires_grad_()
        loss = F.cross_entropy(b.victim.classifier(x), b.labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        x = x.detach() + STEP_SIZE * grad.sign()
        x = torch.max(torch.min(x, b.images + EPS), b.images - EPS).clamp(0, 1)
    torch.testing.assert_close(attack()(b)["x_adv"], x, rtol=0, atol=1e-12)


class Library(nn.Module):
    """The victim of one image as torchattacks wants it, with the noise of PGD's iterations."""

    def __init__(self, b, words):
        super().__init__()
        self.batch, self.words = b, iter(words)
        self.classifier = b.victim.classifier  # whose parameters say the device

    def forward(self, x):
        return self.batch.logits(x, next(self.words))


@pytest.mark.parametrize("purifier", [None, Noisy()], ids=["bare", "defence"])
@pytest.mark.parametrize("random_start", [True, False])
def test_every_iterate_is_torchattacks(purifier, random_start, monkeypatch):
    """To the last bit: both take the same float32 operations of one image, in the same order.

    (The library's loss is the mean over a batch, so that for several images at once rounding may
    turn the sign of a gradient that is nearly 0.)
    """
    import torchattacks

    words = [f"pgd {k + 1}" if random_start else f"{k}" for k in range(7)]
    several, ends = batch(purifier, torch.float32), []
    for i in range(4):
        b = several.take([i])
        seen = b.victim.restorer.seen
        start = ImageNoise(0, "attack", [INDICES[i]]).uniform_like(b.images, -EPS, EPS)
        ours = attack(random_start=random_start)(b)
        mine, seen[:] = [*seen, ours["x_adv"]], []
        library = torchattacks.PGD(Library(b, words), EPS, STEP_SIZE, 7, random_start=random_start)
        with monkeypatch.context() as patch:  # the library's one draw, answered by the image's own
            patch.setattr(torch.Tensor, "uniform_", lambda x, low, high, s=start: x.copy_(s))
            theirs = library(b.images, b.labels)
        theirs, seen[:] = [*seen, theirs], []
        assert len(mine) == len(theirs) == 8
        for k, (x, y) in enumerate(zip(mine, theirs, strict=True)):
            assert torch.equal(x, y), f"image {i}, iterate {k}"
        assert ours["queries"].tolist() == [7]
        # it moves at every iteration, so that another iterate would be another image
        assert len({x.numpy().tobytes() for x in mine}) == 8
        assert torch.equal(mine[0], b.images) != random_start
        ends.append(mine[-1] - b.images)
    assert len({end.numpy().tobytes() for end in ends}) == 4


def test_an_images_attack_does_not_depend_on_its_batch():
    b = batch(Noisy())
    together, alone = attack(eot_iter=2)(b), attack(eot_iter=2)(b.take([2]))
    torch.testing.assert_close(together["x_adv"][2:3], alone["x_adv"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"random_start": False}, {"eps": 0.5, "norm": "L2", "random_start": False}]
)
def test_it_stays_in_the_ball_and_in_range_and_raises_the_loss(options):
    b, pgd_20 = batch(), attack(n_iter=20, **options)
    x_adv = pgd_20(b)["x_adv"]
    assert (pgd_20.ball.distance(x_adv, b.images) <= pgd_20.ball.eps + 1e-12).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    clean, attacked = (
        F.cross_entropy(b.victim.classifier(x), b.labels, reduction="none")
        for x in (b.images, x_adv)
    )
    assert (attacked > clean).all()


def test_the_start_is_random_only_if_wanted():
    def ends(**options):
        return [
            attack(n_iter=1, **options)(batch(indices=indices))["x_adv"]
            for indices in ([0, 1, 2, 3], [4, 5, 6, 7])
        ]

    assert not torch.equal(*ends())
    assert torch.equal(*ends(random_start=False))


@pytest.mark.parametrize("draws", [1, 2, 3])  # at once
@pytest.mark.parametrize(("random_start", "words"), [(True, "pgd 4"), (False, "3")])
def test_the_gradient_is_the_mean_over_draws_of_a_step(random_start, words, draws, monkeypatch):
    b = batch(Noisy())
    monkeypatch.setattr(compute, "FOLDED", draws * b.images[:, 0].numel())
    mean = attack(eot_iter=3, random_start=random_start).mean_gradient(b, b.images, 3)
    grads = []
    for draw in range(3):
        x = b.images.clone().requires_grad_()
        noise = ImageNoise(0, f"attack {words}", INDICES, [draw])
        logits = b.victim.classifier(b.victim.purifier(x, noise))
        loss = F.cross_entropy(logits, b.labels, reduction="sum")
        grads.append(torch.autograd.grad(loss, x)[0])
    assert not torch.allclose(grads[0], grads[1])
    torch.testing.assert_close(mean, sum(grads) / 3)


def test_with_fixed_draws_it_knows_the_noise_of_the_purify_stage():
    b = batch(Noisy(), fixed=True)
    x = b.images.clone().requires_grad_()
    loss = F.cross_entropy(b.victim(x, INDICES), b.labels, reduction="sum")
    (grad,) = torch.autograd.grad(loss, x)
    for number in (0, 5):
        torch.testing.assert_close(attack().mean_gradient(b, b.images, number), grad)


def test_every_draw_is_a_query():
    assert attack(n_iter=5, eot_iter=3)(batch())["queries"].tolist() == [15] * 4


def test_a_killed_attack_goes_on():
    states = {}
    whole = attack(eot_iter=2)(batch(Noisy()), callback=lambda s, done: states.update({done: s}))
    assert list(states) == [1, 2, 3, 4, 5, 6, 7]
    for done in (1, 4):
        again = attack(eot_iter=2)(batch(Noisy()), saved=(states[done], done))
        assert torch.equal(again["x_adv"], whole["x_adv"])
        assert torch.equal(again["queries"], whole["queries"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": "4/x"}, "4/x"),
        ({"eps": 8}, r"\(0, 1\]"),
        ({"step_size": "0/255"}, "a fraction such as 4/255"),
        ({"step_size": "9/255", "eps": "4/255"}, "the ball is 0.0313725 wide"),
        ({"eps": "4/0"}, "fraction"),
        ({"n_iter": 0}, "whole number from 1"),
        ({"eot_iter": 0}, "whole number from 1"),
        ({"norm": "L2"}, "no random start in L2"),
        ({"norm": "l2", "random_start": False}, "did you mean 'L2'"),
        ({"gradient": "ful"}, "did you mean 'full'"),
    ],
)
def test_bad_options_are_refused(options, message):
    entry = {"kind": "pgd", "eps": "8/255", "step_size": "2/255", "n_iter": 7, **options}
    with pytest.raises(UserError, match=message):
        part_of("attack", "pgd", entry).build()


@pytest.mark.parametrize(
    "labels",
    [torch.eye(4)[:2], torch.zeros(2), torch.zeros(2, dtype=torch.int32), torch.tensor([0])],
)
def test_labels_of_a_batch_are_a_class_each(labels):
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(UserError, match=r"labels must be int64 \(2,\), a class each, but are "):
        Batch(Defence(None, None, Recording()), images, labels, AttackNoise(0, [0, 1]))
