import pytest
import torch
from official import TinyClassifier
from torch import nn

from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Batch
from puriflow.attacks.bpda_eot import BPDAEOT
from puriflow.attacks.pgd import PGD
from puriflow.defence import Defence


class TinyPurifier(nn.Module):
    """The fixtures' own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, noise):
        return x + 0.2 * torch.tanh(self.conv(x + 0.1 * noise.normal_like(x)))


class Given:
    """Recorded draws."""

    def __init__(self, draw):
        self.draw = draw

    def normal_like(self, images):
        return self.draw


def defence(f):
    classifier, purifier = TinyClassifier(), TinyPurifier()
    state = f.weights()
    for part, prefix in ((classifier, "clf."), (purifier, "pur.")):
        part.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        part.requires_grad_(False)
    return Defence(None, purifier, classifier)


class EOTNoise:
    """Of robust-eval: [step, draw]."""

    def __init__(self, noise):
        self.noise = noise

    def victim(self, step, draws):
        return Given(self.noise[int(step), list(draws)].flatten(0, 1))


@pytest.mark.parametrize(
    ("tag", "gradient", "norm"),
    [("pgd", "full", "Linf"), ("bpda", "identity", "Linf"), ("l2", "full", "L2")],
)
def test_pgd_eot(fixture, tag, gradient, norm):
    f = fixture("pgd-eot")
    c = f.config
    ball = Ball(c["eps_l2"] if norm == "L2" else c["eps"], norm)
    options = {"random_start": False, "eot_iter": c["eot"], "gradient": gradient}
    batch = Batch(defence(f), f["in.x"], f["in.y"], EOTNoise(f["in.noise"]))
    for n_iter in (1, c["attack_steps"]):
        attack = PGD(ball, c["step_size"], n_iter, **options)
        f.check(f"out.{tag}.x_adv_{n_iter}", attack(batch)["x_adv"])
    if norm == "Linf":
        mean = attack.mean_gradient(batch, f["in.x"], 0)
        f.check(f"out.{tag}.grad_0", mean)
        f.check(f"out.{tag}.sign_0", mean.sign().to(torch.int8))


class BPDANoise:
    """Of DiffPure: copy-major at every step, and by step, image and draw for the confirmation."""

    def __init__(self, f, images=None):
        self.f, self.images = f, images

    def take(self, positions):
        return BPDANoise(self.f, positions)

    def victim(self, step, draws):
        if self.images is None:
            copies = self.f["in.noise"][int(step)].unflatten(0, (-1, len(self.f["in.x"])))
            return Given(copies[list(draws)].flatten(0, 1))
        return Given(self.f["in.verify_noise"][int(step.split()[0]), self.images[0], list(draws)])


def test_bpda_eot(fixture, monkeypatch):
    f = fixture("bpda-eot")
    c = f.config
    attack = BPDAEOT(
        Ball(c["adv_eps"]), c["adv_eta"], c["steps"], c["eot_attack_reps"], c["eot_defense_reps"]
    )
    seen = {}

    def mean_gradient(batch, copies, mean):
        seen.update(grad=BPDAEOT.mean_gradient(attack, batch, copies, mean), mean=mean)
        return seen["grad"]

    monkeypatch.setattr(attack, "mean_gradient", mean_gradient)
    batch = Batch(defence(f), f["in.x"], f["in.y"], BPDANoise(f))
    state = attack.begin(batch)
    for k in range(c["steps"]):
        state = attack.step(batch, state, k)
        # the official loss is a mean over the batch
        f.check(f"out.step{k}.grad", seen["grad"] / len(f["in.x"]))
        f.check(f"out.step{k}.sign", seen["grad"].sign().to(torch.int8))
        f.check(f"out.step{k}.correct", seen["mean"].argmax(1) == f["in.y"])
        f.check(f"out.step{k}.defended", ~state["success"])
        f.check(f"out.step{k}.x_adv", state["x"])
