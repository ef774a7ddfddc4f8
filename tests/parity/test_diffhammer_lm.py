"""Exact gradients through ScoreOpt's optimiser against recorded ones, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import SigmaDenoiser
from puriflow.networks.edm import EDMPrecond, SongUNet
from puriflow.purifiers.scoreopt import ScoreOpt


class Recorded:
    """The fixture's draws in their order; a frozen run has the first ones again and again."""

    def __init__(self, f, run):
        self.f, self.frozen, self.k = f, run.get("frozen", False), -1

    def uniform(self, low, high):
        self.k += 1
        u = self.f["in.u"][0 if self.frozen else self.k].double()
        return low + u * (high - low)

    def normal_like(self, images):
        return self.f["in.noise"][0 if self.frozen else self.k].double()


class TinyClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        h = F.silu(self.conv2(F.silu(self.conv1(x))))
        return self.fc(h.mean((2, 3)))


def networks(f):
    config = f.config["edm"]
    weights = f.weights()
    denoiser = EDMPrecond(
        SongUNet(
            image_size=config["img_resolution"],
            channels=config["model_channels"],
            channel_mult=config["channel_mult"],
            num_blocks=config["num_blocks"],
            attn_resolutions=config["attn_resolutions"],
            augment_dim=config["augment_dim"],
        )
    )
    classifier = TinyClassifier()
    for prefix, network in (("net.", denoiser), ("clf.", classifier)):
        own = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        network.load_state_dict(own, strict=True)
        network.double().eval().requires_grad_(False)
    return SigmaDenoiser(denoiser), classifier


@pytest.mark.parametrize("rule", ["adam", "diffhammer"])
@pytest.mark.parametrize("tag", ["n1", "n2", "n5", "f5"])
def test_the_purified_image_and_its_exact_gradients(fixture, tag, rule):
    f = fixture("diffhammer-lm")
    run = next(run for run in f.config["runs"] if run["tag"] == tag)
    denoiser, classifier = networks(f)
    purifier = ScoreOpt(
        denoiser,
        method="O",
        sigma=0.5,
        n_iter=run["n_lm"],
        learning_rate=f.config["lr"],
        rule=rule,
        shared=False,
        resize=None,
    )
    # the recorded objective is a mean over the batch of two
    purifier.loss = lambda residual: (residual**2).flatten(1).mean(1) / len(residual)
    x = f["in.x"].double().requires_grad_()
    purified = purifier(x, Recorded(f, run))
    name = {"adam": "adam_", "diffhammer": ""}[rule]
    f.check(f"out64.{tag}.{name}y", purified.detach())
    losses = F.cross_entropy(classifier(purified), f["in.y"], reduction="sum")
    (of_ce,) = torch.autograd.grad(losses, x, retain_graph=True)
    (of_linear,) = torch.autograd.grad((purified * f["in.cotangent"]).sum(), x)
    f.check(f"out64.{tag}.{name}exact_ce", of_ce)
    f.check(f"out64.{tag}.{name}exact_lin", of_linear)
