import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.attacks import pgd
from puriflow.attacks.attack import Target
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import Draws, ImageNoise

EPS, STEP = 8 / 255, 2 / 255


@pytest.fixture(scope="module")
def victim():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return net.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 1, 2, 3])


def run(victim, images, labels, indices, steps=7, **options):
    attack = pgd.build(
        **{"eps": "8/255", "step": "2/255", "random_start": True, **options}, steps=steps
    )
    target = Target(Defence(None, None, victim), images, labels, Draws(0, indices))
    return attack(target)["found"]


def test_it_is_madrys_iteration_from_each_images_own_start(victim, batch):
    images, labels = batch
    x = images + ImageNoise(0, "attack", range(4)).uniform_like(images, -EPS, EPS)
    x = x.clamp(0, 1)
    for _ in range(7):  # written out from paper Eq. 4, independently of the library
        x.requires_grad_()
        loss = F.cross_entropy(victim(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() + STEP * gradient.sign()
        x = torch.max(torch.min(x, images + EPS), images - EPS).clamp(0, 1)
    torch.testing.assert_close(run(victim, images, labels, range(4)), x, rtol=0, atol=1e-12)


def test_an_images_attack_does_not_depend_on_its_batch(victim, batch):
    images, labels = batch
    together = run(victim, images, labels, [4, 5, 6, 7])
    alone = run(victim, images[2:3], labels[2:3], [6])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-12)


def test_it_stays_in_the_ball_and_in_range_and_raises_the_loss(victim, batch):
    images, labels = batch
    found = run(victim, images, labels, range(4), steps=20)
    assert (found - images).abs().max() <= EPS + 1e-12
    assert found.min() >= 0
    assert found.max() <= 1
    losses = [F.cross_entropy(victim(x), labels, reduction="none") for x in (images, found)]
    assert (losses[1] > losses[0]).all()


def test_the_start_is_random_only_if_asked(victim, batch):
    images, labels = batch
    first = run(victim, images, labels, [0, 1, 2, 3], steps=1)
    other = run(victim, images, labels, [4, 5, 6, 7], steps=1)
    assert not torch.equal(first, other)
    fixed = [
        run(victim, images, labels, i, steps=1, random_start=False) for i in (range(4), range(4, 8))
    ]
    assert torch.equal(*fixed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": "4/x"}, "4/x"),
        ({"eps": 8}, r"\(0, 1\]"),
        ({"step": "0/255"}, "above 0"),
        ({"eps": "4/0"}, "fraction"),
    ],
)
def test_bad_numbers_are_refused(victim, batch, options, message):
    with pytest.raises(UserError, match=message):
        run(victim, *batch, range(4), **options)
