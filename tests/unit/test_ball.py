"""The ball: what is put in it is in it, measured exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puriflow.attacks.ball import Ball, fraction
from puriflow.attacks.base import Batch
from puriflow.attacks.pgd import PGD
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise

EXACT = 2**-52


def pair(seed: int, side: int, far: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of which one is somewhere around the clean one."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 3, side, side, generator=generator)
    return clean + far * torch.randn(clean.shape, generator=generator), clean


def exact(x: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return (x.double() - clean.double()).flatten(1).norm(dim=1)


@pytest.mark.parametrize("eps", [0.5, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("side", [32, 224, 256])
def test_an_image_put_in_an_l2_ball_is_not_a_bit_outside(side, eps):
    """Of these, float32 alone leaves up to 3e-6 outside."""
    ball = Ball(eps, "L2")
    for seed in range(3):
        x, clean = pair(seed, side, 0.1)
        inside = ball.project(x, clean)
        distance = exact(inside, clean)
        assert (distance <= eps).all()
        assert (ball.distance(inside, clean) == distance).all()
        reach = exact(x.clamp(0, 1), clean)
        assert (distance > 0.9 * reach.clamp(max=eps)).all()  # at its border, not somewhere inside
        assert inside.min() >= 0
        assert inside.max() <= 1
        assert torch.equal(ball.inwards(inside, clean), inside)


@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 4, 16, 33]),
    st.floats(1e-6, 30),
    st.floats(1e-8, 1),
)
def test_any_point_is_put_in_any_ball(seed, side, eps, far):
    x, clean = pair(seed, side, far)
    assert (exact(Ball(eps, "L2").project(x, clean), clean) <= eps).all()
    if eps <= 1:  # of Linf a pixel is rounded once, and what a track has computed stays
        inside = Ball(eps, "Linf").project(x, clean)
        assert ((inside.double() - clean.double()).abs() <= eps + 2**-24).all()


def test_what_is_inside_already_stays_to_the_bit():
    x, clean = pair(0, 32, 1e-3)
    near = (clean + (x - clean)).clamp(0, 1)
    assert torch.equal(Ball(3.0, "L2").project(x, clean), near)
    assert torch.equal(Ball(3.0, "L2").inwards(near, clean), near)


def test_an_l2_attack_on_a_large_image_ends_in_its_ball():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.AvgPool2d(32), torch.nn.Flatten(), torch.nn.Linear(3 * 49, 10)
    )
    clean = torch.rand(2, 3, 224, 224)
    victim = Defence(None, None, network).requires_grad_(False)
    batch = Batch(victim, clean, torch.tensor([1, 2]), AttackNoise(0, [0, 1]))
    attack = PGD(Ball(3.0, "L2"), 0.05, 5, random_start=False)
    distance = exact(attack(batch)["x_adv"], clean)
    assert (distance <= 3).all()
    assert (distance > 2.9).all()


def test_labels_that_the_victim_does_not_know_are_refused():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
    batch = Batch(
        Defence(None, None, network),
        torch.rand(1, 3, 2, 2),
        torch.tensor([10]),
        AttackNoise(0, [0]),
    )
    with pytest.raises(UserError, match="label 10, but the classifier knows the classes 0 to 9"):
        PGD(Ball(0.1), 0.05, 1)(batch)


@pytest.mark.parametrize(
    ("ball", "change", "says"),
    [
        (Ball(8 / 255), 255, r"images must lie in \[0, 1\], but span .*divide them by 255"),
        (Ball(32, "L2"), 1, r"eps of L2 is 32, but images of this size turn to grey within 27\.7"),
        (Ball(8 / 255, "L2"), 1, None),
        (Ball(27, "L2"), 1, None),
    ],
)
def test_a_ball_is_one_of_unit_images(ball, change, says):
    images = torch.rand(2, 3, 32, 32) * change
    if says is None:
        ball.check_images(images)
        return
    victim = Defence(None, None, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2)))
    batch = Batch(victim, images, torch.tensor([0, 1]), AttackNoise(0, [0, 1]))
    with pytest.raises(UserError, match=says):
        PGD(ball, 0.01, 1, random_start=False)(batch)


@pytest.mark.parametrize("text", ["4/255", "1/1", 0.007, 1])
def test_a_length_may_be_a_fraction(text):
    number = eval(text) if isinstance(text, str) else text
    assert fraction(text) == number
