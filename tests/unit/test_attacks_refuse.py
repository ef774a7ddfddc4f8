"""What attacks refuse: no draws, and a gradient of NaN, by whose sign they would stand still."""

import pytest
import torch
from torch import nn

from puriflow.attacks import apgd, autoattack, bpda_eot, diffattack, pgd, square
from puriflow.attacks.base import Batch
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise

EPS = 8 / 255
PGD = {"eps": EPS, "step_size": 2 / 255, "n_iter": 2}


class Rooted(nn.Module):
    """The identity, with a root of 0 in it."""

    def forward(self, x, noise=None, callback=None):
        return x + 0 * (x - x.detach()).abs().sqrt()


@pytest.mark.parametrize(
    "attack",
    [
        pgd.build(**PGD, eot_iter=2),
        pgd.build(**PGD, n_eval=2),
        apgd.build(eps=EPS, n_iter=2),
        apgd.build(eps=0.5, norm="L2", n_iter=2, loss="dlr"),
        autoattack.build(eps=EPS, version="rand", n_iter=2, eot_iter=2),
        bpda_eot.build(eps=EPS, n_iter=2, eot_iter=2, n_draws=2, gradient="full"),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_a_gradient_of_nan_is_refused(attack):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval().requires_grad_(False)
    images = torch.rand(3, 3, 8, 8)
    victim = Defence(None, Rooted(), net)
    assert victim(images).isfinite().all()  # nothing else says it
    batch = Batch(victim, images, net(images).argmax(1), AttackNoise(0, range(3)))
    with pytest.raises(UserError, match="gradients of the attack's loss have NaN or infinity"):
        attack(batch)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize(
    ("build", "named"),
    [
        (pgd.build, ("n_iter", "eot_iter")),
        (apgd.build, ("n_iter", "eot_iter", "n_restarts", "votes", "n_target_classes")),
        (bpda_eot.build, ("n_iter", "eot_iter", "n_draws")),
        (square.build, ("n_queries", "votes")),
        (autoattack.build, ("n_iter", "n_queries", "n_target_classes", "n_restarts", "n_eval")),
        (diffattack.build, ("n_iter", "eot_iter")),
    ],
)
def test_from_python_as_from_a_track_what_is_counted_is_a_whole_number_from_1(build, named, count):
    for name in named:
        given = {**(PGD if build is pgd.build else {"eps": EPS}), name: count}
        with pytest.raises(UserError, match=f"^{name} must be a whole number from 1, but is "):
            build(**given)
