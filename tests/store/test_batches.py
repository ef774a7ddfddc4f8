"""Results do not depend on the batch: to the last bit on a CPU."""

from functools import partial

import numpy as np
import pytest
import torch

from puriflow.attacks import pgd
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


def test_an_attack_that_leaves_its_ball_is_refused(run, four_images, tmp_path, monkeypatch):
    def too_far(self, batch, state, number):
        return state | {"x_adv": (batch.images + 5 / 255).clamp(0, 1)}

    monkeypatch.setattr(pgd.PGD, "step", too_far)
    with pytest.raises(UserError, match=r"exceeds eps 0\.015686"):
        run("attack", four_images, tmp_path / "a", 4)
    with pytest.raises(UserError, match="does not exist"):
        open_stage(tmp_path / "a")
