import pytest
import torch
from official import TinyClassifier
from torch import nn

from puriflow.attacks.attack import Target
from puriflow.attacks.ball import Ball
from puriflow.attacks.bpda_eot import BPDAEOT
from puriflow.attacks.pgd_eot import PGDEOT
from puriflow.defence import Defence


class TinyPurifier(nn.Module):
    """The fixtures' own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, noise):
        return x + 0.2 * torch.tanh(self.conv(x + 0.1 * noise.normal_like(x)))


class Given:
    """One recorded draw."""

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


class EOTDraws:
    """Of robust-eval: [step, draw]."""

    def __init__(self, noise):
        self.noise = noise

    def defence(self, step, draw):
        return Given(self.noise[step, draw])


@pytest.mark.parametrize(
    ("tag", "gradient", "norm"),
    [("pgd", "full", "Linf"), ("bpda", "identity", "Linf"), ("l2", "full", "L2")],
)
def test_pgd_eot(fixture, tag, gradient, norm):
    f = fixture("pgd-eot")
    c = f.config
    draws = EOTDraws(f["in.noise"])
    ball = Ball(c["eps_l2"] if norm == "L2" else c["eps"], norm)
    for steps in (1, c["attack_steps"]):
        attack = PGDEOT(ball, c["step_size"], steps, c["eot"], gradient)
        target = Target(defence(f), f["in.x"], f["in.y"], draws)
        f.check(f"out.{tag}.x_adv_{steps}", attack(target)["found"])
    if norm == "Linf":
        mean = attack.mean_gradient(target, f["in.x"], 0)
        f.check(f"out.{tag}.grad_0", mean)
        f.check(f"out.{tag}.sign_0", mean.sign().to(torch.int8))


class BPDADraws:
    """Of DiffPure: copy-major at every step, and by step, image and draw for the confirmation."""

    def __init__(self, f, images=None):
        self.f, self.images = f, images

    def take(self, positions):
        return BPDADraws(self.f, positions)

    def defence(self, step, draw):
        if self.images is None:
            batch = len(self.f["in.x"])
            return Given(self.f["in.noise"][step, draw * batch : (draw + 1) * batch])
        return Given(self.f["in.verify_noise"][int(step.split()[0]), self.images[0], draw][None])


def test_bpda_eot(fixture, monkeypatch):
    f = fixture("bpda-eot")
    c = f.config
    attack = BPDAEOT(
        Ball(c["adv_eps"]), c["adv_eta"], c["steps"], c["eot_attack_reps"], c["eot_defense_reps"]
    )
    seen = {}

    def gradient(target, copies, mean):
        seen.update(gradient=BPDAEOT.gradient(attack, target, copies, mean), mean=mean)
        return seen["gradient"]

    monkeypatch.setattr(attack, "gradient", gradient)
    target = Target(defence(f), f["in.x"], f["in.y"], BPDADraws(f))
    state = attack.begin(target)
    for k in range(c["steps"]):
        state = attack.step(target, state, k)
        # the official loss is a mean over the batch
        f.check(f"out.step{k}.grad", seen["gradient"] / len(f["in.x"]))
        f.check(f"out.step{k}.sign", seen["gradient"].sign().to(torch.int8))
        f.check(f"out.step{k}.correct", seen["mean"].argmax(1) == f["in.y"])
        f.check(f"out.step{k}.defended", ~state["broken"])
        f.check(f"out.step{k}.x_adv", state["x"])
