"""Exact gradients through ScoreOpt's optimiser against recorded ones, in float64."""

import pytest
import torch
from official import TinyClassifier, edm_of
from torch.nn import functional as F

from puriflow.diffusion.denoisers import SigmaDenoiser
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


def networks(f):
    classifier = TinyClassifier()
    own = {k.removeprefix("clf."): w for k, w in f.weights().items() if k.startswith("clf.")}
    classifier.load_state_dict(own, strict=True)
    return SigmaDenoiser(edm_of(f, "net.").double()), classifier.double().requires_grad_(False)


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
