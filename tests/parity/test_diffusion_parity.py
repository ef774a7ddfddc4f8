import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.diffusion.adm import ADM
from puriflow.diffusion.networks import Score
from puriflow.diffusion.vp import beta, diffuse
from puriflow.purifiers.vpsde import VPSDE, time_grid


def test_adm(fixture):
    f = fixture("adm")
    # What the constructor takes; the rest of the configuration is about training.
    taken = set(inspect.signature(ADM).parameters) & f.config.keys()
    net = ADM(**{name: f.config[name] for name in taken}).eval()
    net.load_state_dict(f.weights(), strict=True)
    with torch.no_grad():
        for t in f["in.t_list"].tolist():
            f.check(f"out.t{t}", net(f["in.x"], torch.tensor([t, t])))
        f.check("out.mixed", net(f["in.x"], f["in.t_mixed"]))
        f.check("out.small_t10", net(f["in.x_small"], torch.tensor([10, 10])))


class TinyEps(nn.Module):
    """The fixture's own small network (see its note)."""

    def __init__(self, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.temb = nn.Linear(1, 8)
        self.conv2 = nn.Conv2d(8, outputs, 3, padding=1)
        self.labels: list[int] = []

    def forward(self, x, labels):
        self.labels.append(labels[0].item())
        embedded = self.temb(labels[:, None].float() / 1000)
        return self.conv2(F.silu(self.conv1(x) + embedded[:, :, None, None]))


class Recorded:
    """The fixture's noise: the forward draw, then the increments, as standard normal draws."""

    def __init__(self, fixture, level):
        shape = fixture[f"in.t{level}.x0"].shape
        # The end of the last step is nearer than 1e-3: the recorded increment says by how much.
        increments = fixture[f"in.t{level}.dW"].reshape(-1, *shape) / 1e-3**0.5
        self.draws = [fixture[f"in.t{level}.e"], *increments]

    def normal_like(self, images):
        return self.draws.pop(0)


def diffpure(f, level):
    net = TinyEps(6)
    state = f.weights()
    prefix = "guided."
    net.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    return VPSDE(Score(net, integer_steps=True), t=level, step=1, resize=None), net


@pytest.mark.parametrize("level", [10, 90])
def test_diffpure_end_to_end_with_its_gradient(fixture, level):
    f = fixture("diffpure-vpsde")
    purifier, net = diffpure(f, level)
    x0 = f[f"in.t{level}.x0"].requires_grad_()
    purified = purifier((x0 + 1) / 2, Recorded(f, level)) * 2 - 1
    labels = torch.tensor(net.labels)
    (gradient,) = torch.autograd.grad((f["in.cotangent"] * purified).sum(), x0)
    f.check(f"out.t{level}.guided.x", purified.detach())
    f.check(f"out.t{level}.guided.labels", labels)
    f.check(f"out.t{level}.guided.grad", gradient)


@pytest.mark.parametrize("level", [10, 90])
def test_diffpure_s_grid_and_forward_noise(fixture, level):
    f = fixture("diffpure-vpsde")
    f.check(f"out.t{level}.s_grid", 1 - time_grid(level, 1))
    noised = diffuse(f[f"in.t{level}.x0"], level, f[f"in.t{level}.e"])
    f.check(f"out.t{level}.x_noised", noised)


def test_diffpure_s_drift_and_diffusion(fixture):
    f = fixture("diffpure-vpsde")
    purifier, net = diffpure(f, 10)
    x = f["in.f.x"].reshape(-1, 3, 8, 8)
    drifts, labels = [], []
    with torch.no_grad():
        for s in f["in.f.s"]:
            t = 1 - s
            drift = 0.5 * beta(t) * x + beta(t) * purifier.score(x, t)
            drifts.append(drift.flatten(1))
            labels.append([net.labels[-1]] * len(x))
    f.check("out.f.guided_diffusion", torch.stack(drifts))
    f.check("out.f.guided_diffusion.labels", torch.tensor(labels))
    f.check("out.g", beta(1 - f["in.f.s"]).sqrt())
