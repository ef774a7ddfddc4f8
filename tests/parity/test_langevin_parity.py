"""MEFA's Langevin dynamics of an energy-based model, and their exact gradient."""

import pytest
import torch
from official import TinyClassifier
from torch.nn import functional as F

from puriflow.purifiers.langevin import Energy, Langevin


class Recorded:
    """The fixture's draws: that of the start, then those of the steps."""

    def __init__(self, f, dtype):
        drawn = [f["in.langevin.init"], *f["in.langevin.noise"]]
        self.noise = [z.to(dtype) for z in drawn]

    def normal_like(self, images):
        return self.noise.pop(0)


def parts(f, steps, dtype):
    """The purifier, the classifier, images and labels."""
    config, state = f.config, f.weights()
    energy = Energy(n_f=config["n_f"], image_size=config["size"], activation="smooth")
    classifier = TinyClassifier()
    for module, prefix in ((energy, "ebm."), (classifier, "clf.")):
        own = {k.removeprefix(prefix): w for k, w in state.items() if k.startswith(prefix)}
        module.load_state_dict(own, strict=True)
        module.to(dtype).requires_grad_(False)
    eps = config["langevin_eps"]
    purifier = Langevin(
        energy,
        n_iter=steps,
        step_size=eps**2 / 2 / config["mcmc_temp"],
        noise=eps,
        start_noise=config["langevin_init_noise"],
    )
    return purifier, classifier, f["in.x"].to(dtype), f["in.y"]


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_langevin_and_its_exact_gradients(fixture, steps):
    f = fixture("mefa-langevin")
    purifier, classifier, images, labels = parts(f, steps, torch.float32)
    x = images.clone().requires_grad_()
    purified = purifier(x, Recorded(f, x.dtype))
    f.check(f"out.l{steps}.y", purified.detach() * 2 - 1)
    # recorded are gradients by the image on [-1, 1]
    (linear,) = torch.autograd.grad(
        ((purified * 2 - 1) * f["in.cotangent"]).sum(), x, retain_graph=True
    )
    f.check(f"out.l{steps}.grad_lin", linear / 2)
    loss = F.cross_entropy(classifier(purified), labels)
    by_image, at_purified = torch.autograd.grad(loss, (x, purified))
    f.check(f"out.l{steps}.grad_ce", by_image / 2)
    f.check(f"out.l{steps}.bpda_ce", at_purified / 2)


def test_langevin_in_float64(fixture):
    f = fixture("mefa-langevin")
    purifier, classifier, images, labels = parts(f, 20, torch.float64)
    x = images.clone().requires_grad_()
    purified = purifier(x, Recorded(f, x.dtype))
    f.check("out64.l20.y", purified.detach() * 2 - 1)
    (gradient,) = torch.autograd.grad(F.cross_entropy(classifier(purified), labels), x)
    f.check("out64.l20.grad_ce", gradient / 2)
