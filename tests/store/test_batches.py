"""Results do not depend on the batch: to the last bit on a CPU."""

from functools import partial

import numpy as np
import pytest
import torch

from puriflow.attacks import pgd
from puriflow.attacks.ball import Ball
from puriflow.errors import UserError
from puriflow.registry import part_of
from puriflow.stages.attack import write_attack
from puriflow.stages.purify import write_purified
from puriflow.store import open_stage

PGD = part_of("attack", "pgd", {"kind": "pgd", "eps": "4/255", "step_size": "1/255", "n_iter": 3})
VICTIM = {"classifier": part_of("classifier", "lite0", {"kind": "efficientnet-lite0"})}


@pytest.fixture
def run(tiny_adm):
    """Runs a stage on a source into a folder, by batches of a size."""
    entry = {"kind": "vpsde", "t": 3, "network": tiny_adm}
    return partial(_run, part_of("purifier", "vpsde", entry))


def _run(vpsde, stage, source, out, batch):
    torch.manual_seed(0)  # of the network's random weights
    device = torch.device("cpu")
    if stage == "attack":
        return write_attack(source, out, PGD, VICTIM, seed=0, device=device, batch=batch)
    return write_purified(source, out, vpsde, seed=0, device=device, batch=batch)


@pytest.mark.parametrize("stage", ["attack", "purify"])
def test_batches_of_1_3_and_4_give_the_same_bytes(run, stage, four_images, tmp_path):
    made = [run(stage, four_images, tmp_path / str(b), b) for b in (1, 3, 4)]
    for other in made[1:]:
        assert other.manifest == made[0].manifest
        np.testing.assert_array_equal(other.read("images"), made[0].read("images"))


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_the_rounding_of_many_pixels_is_no_way_out_of_an_l2_ball(
    run, four_images, tmp_path, monkeypatch, factor
):
    """At 224 pixels it alone is more than 1e-6; a ten-thousandth of eps is more than it."""
    ball = Ball(3.0, "L2")

    def on_the_sphere(self, batch, state, number):
        clean = batch.images.double()
        inwards = torch.where(clean < 0.5, 1.0, -1.0) * torch.rand_like(clean)
        delta = factor * ball.eps * inwards / inwards.flatten(1).norm(dim=1)[:, None, None, None]
        x = (clean + delta).float()
        further = torch.nextafter(x, (x + delta.sign()).float())
        assert ball.distance(further, batch.images).min() > ball.eps + 1e-6
        return state | {"x_adv": further}

    monkeypatch.setattr(pgd.PGD, "step", on_the_sphere)
    l2 = {"kind": "pgd", "norm": "L2", "eps": 3, "step_size": 1, "n_iter": 1, "random_start": False}
    monkeypatch.setitem(globals(), "PGD", part_of("attack", "pgd-l2", l2))
    if factor == 1:
        assert run("attack", four_images, tmp_path / "a", 4).count == 4
        return
    with pytest.raises(UserError, match=r"pgd-l2: distance 3\.000\d+ exceeds eps 3\.000000"):
        run("attack", four_images, tmp_path / "a", 4)


def test_an_attack_that_leaves_its_ball_is_refused(run, four_images, tmp_path, monkeypatch):
    def too_far(self, batch, state, number):
        return state | {"x_adv": (batch.images + 5 / 255).clamp(0, 1)}

    monkeypatch.setattr(pgd.PGD, "step", too_far)
    with pytest.raises(UserError, match=r"exceeds eps 0\.015686"):
        run("attack", four_images, tmp_path / "a", 4)
    with pytest.raises(UserError, match="does not exist"):
        open_stage(tmp_path / "a")
