import pytest
import torch
from official import TinyClassifier

from puriflow.attacks.apgd import APGD
from puriflow.attacks.autoattack import AutoAttack
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Batch
from puriflow.attacks.square import Square
from puriflow.defence import Defence


class Starts:
    """auto-attack's recorded starts of its runs; each is of the images that still stood then."""

    def __init__(self, starts):
        self.starts = starts

    def take(self, positions):
        return self

    def victim(self, step, draws):
        return None

    def attacker(self, word):
        self.drawn = self.starts[int(word.split()[1])]
        return self

    def uniform_like(self, images, low, high):
        assert (low, high) == (-1, 1)
        assert images.shape == self.drawn.shape
        return self.drawn


def batch_of(f, noise):
    classifier = TinyClassifier()
    classifier.load_state_dict(f.weights())
    victim = Defence(None, None, classifier.requires_grad_(False))
    return Batch(victim, f["in.x"], f["in.y"], noise)


def close(f, name, got):
    """APGD takes signs of gradients that it drives to zero: a few elements may differ."""
    described = f.meta["tensors"][name]
    assert got.shape == f[name].shape
    outside = (got - f[name]).abs() > described["atol"]
    assert outside.double().mean() <= described["max_fraction_outside"]


def check_adversarial(f, name, batch, attack):
    """The ensemble of this attack alone returns the clean image where it was no success."""
    state = AutoAttack(attack.ball, [attack])(batch)
    success, x_adv = state["success"], state["x_adv"]
    if "max_fraction_outside" in f.meta["tensors"][f"out.{name}.adv"]:
        close(f, f"out.{name}.adv", x_adv)
    else:
        f.check(f"out.{name}.adv", x_adv)
    f.check(f"out.{name}.robust", ~success)
    f.check(f"out.{name}.robust", batch.logits(x_adv, "").argmax(1) == f["in.y"])


def apgd(f, loss, starts):
    c = f.config["apgd"]
    attack = APGD(
        Ball(f.config["eps"]),
        loss,
        n_iter=c["n_iter"],
        n_restarts=c["n_restarts"],
        n_target_classes=f.config["target_classes"],
        rho=c["rho"],
        eot_iter=c["eot_iter"],
    )
    return batch_of(f, Starts(starts)), attack


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd(fixture, loss):
    f, name = fixture("autoattack"), f"apgd_{loss}"
    batch, attack = apgd(f, loss, [f[f"rec.{name}.t"]])
    f.check("out.logits_clean", batch.logits(f["in.x"], ""))
    check_adversarial(f, name, batch, attack)
    state = attack(batch)
    attacked = f["out.logits_clean"].argmax(1) == f["in.y"]
    close(f, f"out.{name}.x_best", state["x_best"][attacked])
    f.check(f"out.{name}.acc", ~state["misclassified"][attacked])
    f.check(f"out.{name}.loss_best", state["loss_best"][attacked])
    f.check(f"out.{name}.loss_trace", state["loss_steps"][attacked].T)
    # one pass over the clean image, one over the start, and one for each iteration
    expected = torch.where(attacked, 2 + f.config["apgd"]["n_iter"], 1)
    assert torch.equal(state["queries"], expected)


def test_apgd_targeted(fixture):
    f = fixture("autoattack")
    starts = [f[f"rec.apgd_t.t_{run}"] for run in range(f.config["target_classes"])]
    check_adversarial(f, "apgd_t", *apgd(f, "dlr-targeted", starts))


class Windows:
    """auto-attack's recorded stripes, windows and signs; the latter are one for the batch."""

    def __init__(self, f, step=None):
        self.f, self.places = f, []
        if step is not None:
            self.places = [f["rec.square.vh"][step], f["rec.square.vw"][step]]
            self.signs = f["rec.square.sign"][step]

    def take(self, positions):
        return self

    def victim(self, step, draws):
        return None

    def attacker(self, word):
        return self if word == "square" else Windows(self.f, int(word.split()[1]) - 1)

    def integers(self, low, high):
        place = self.places.pop(0)
        assert low <= place < high
        return place[None]

    def uniform_like(self, images, low, high):
        if images.ndim == 2:
            return self.signs.expand(images.shape)
        recorded = self.f["rec.square.init"]
        skipped = torch.zeros_like(recorded[: len(images) - len(recorded)])
        return torch.cat([recorded, skipped])  # the last two images are never attacked


def test_square(fixture):
    f = fixture("autoattack")
    c = f.config["square"]
    attack = Square(Ball(f.config["eps"]), n_queries=c["n_queries"], p_init=c["p_init"])
    batch = batch_of(f, Windows(f))
    check_adversarial(f, "square", batch, attack)
    state = attack(batch)
    attacked = f["out.logits_clean"].argmax(1) == f["in.y"]
    # auto-attack does not count the passes over the clean image and at the end
    f.check("out.square.n_queries", (state["queries"][attacked] - 2).float())
    assert (state["queries"][~attacked] == 1).all()
