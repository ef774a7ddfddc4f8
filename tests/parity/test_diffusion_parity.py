import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import alpha_bar, beta, diffuse, time_grid
from puriflow.networks.adm import ADM
from puriflow.networks.ddpmpp import DDPMpp
from puriflow.networks.edm import EDMPrecond, SongUNet, VPPrecond
from puriflow.purifiers.ddim import DDIM
from puriflow.purifiers.vpsde import VPSDE


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


# score_type of the official code: channels of the network, and how it is told the time
KINDS = {
    "guided": (6, {"timesteps": 1000, "integer_steps": True}),
    "score_sde": (3, {"timesteps": 999}),
}


def diffpure(f, level, kind="guided"):
    channels, conventions = KINDS[kind]
    net = TinyEps(channels)
    state = f.weights()
    prefix = f"{kind}."
    net.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    return VPSDE(VPDenoiser(net, **conventions), t=level, resize=None), net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [10, 90])
def test_diffpure_end_to_end_with_its_gradient(fixture, level, kind):
    f = fixture("diffpure-vpsde")
    purifier, net = diffpure(f, level, kind)
    x0 = f[f"in.t{level}.x0"].requires_grad_()
    purified = purifier((x0 + 1) / 2, Recorded(f, level)) * 2 - 1
    labels = torch.tensor(net.labels)
    f.check(f"out.t{level}.{kind}.x", purified.detach())
    f.check(f"out.t{level}.{kind}.labels", labels)
    if kind == "guided":  # the fixture has the gradient of this one only
        (gradient,) = torch.autograd.grad((f["in.cotangent"] * purified).sum(), x0)
        f.check(f"out.t{level}.guided.grad", gradient)


@pytest.mark.parametrize("level", [10, 90])
def test_diffpure_s_grid_and_forward_noise(fixture, level):
    f = fixture("diffpure-vpsde")
    f.check(f"out.t{level}.s_grid", 1 - time_grid(level, level))
    noised = diffuse(f[f"in.t{level}.x0"], level, f[f"in.t{level}.e"])
    f.check(f"out.t{level}.x_noised", noised)


@pytest.mark.parametrize(("kind", "name"), [("guided", "guided_diffusion"), ("score_sde",) * 2])
def test_diffpure_s_drift_and_diffusion(fixture, kind, name):
    f = fixture("diffpure-vpsde")
    purifier, net = diffpure(f, 10, kind)
    x = f["in.f.x"].reshape(-1, 3, 8, 8)
    drifts, labels = [], []
    with torch.no_grad():
        for s in f["in.f.s"]:
            t = 1 - s
            drift = 0.5 * beta(t) * x + beta(t) * purifier.denoiser.score(x, t)
            drifts.append(drift.flatten(1))
            labels.append([net.labels[-1]] * len(x))
    f.check(f"out.f.{name}", torch.stack(drifts))
    f.check(f"out.f.{name}.labels", torch.tensor(labels))
    f.check("out.g", beta(1 - f["in.f.s"]).sqrt())


def test_ddpmpp(fixture):
    f = fixture("ddpmpp")
    model, data = f.config["model"], f.config["data"]
    net = DDPMpp(
        image_size=data["image_size"],
        channels=model["nf"],
        channel_mult=model["ch_mult"],
        num_res_blocks=model["num_res_blocks"],
        attn_resolutions=model["attn_resolutions"],
        num_scales=model["num_scales"],
    ).eval()
    net.load_state_dict(f.weights(), strict=True)
    denoiser = VPDenoiser(net, timesteps=999)
    x, mixed = f["in.x"], f["in.t_mixed"]
    with torch.no_grad():
        for k, t in enumerate(f["in.t_list"]):
            f.check(f"out.model_{k}", net(x, t.expand(2) * 999))
            f.check(f"out.score_{k}", denoiser.score(x, t))
        f.check("out.model_mixed", net(x, mixed * 999))
        f.check("out.score_mixed", denoiser.score(x, mixed))
        f.check("out.model_small", net(f["in.x_small"], torch.full((2,), 99.9)))
    f.check("out.std_mixed", (1 - alpha_bar(mixed)).sqrt())


def test_the_emas_order_of_parameters_is_ours(fixture):
    f = fixture("ddpmpp")
    model = f.config["model"]
    net = DDPMpp(channels=model["nf"], channel_mult=model["ch_mult"], num_res_blocks=1)
    names = [name for name, _ in net.named_parameters()]
    assert names == f.meta["weights"]["parameter_order"]


def test_edm(fixture):
    f = fixture("edm")
    config = f.config
    net = SongUNet(
        image_size=config["img_resolution"],
        channels=config["model_channels"],
        channel_mult=config["channel_mult"],
        num_blocks=config["num_blocks"],
        attn_resolutions=config["attn_resolutions"],
        augment_dim=config["augment_dim"],
    )
    edm, vp = EDMPrecond(net).eval(), VPPrecond(net).eval()
    edm.load_state_dict(f.weights(), strict=True)
    x, mixed = f["in.x"], f["in.sigma_mixed"]
    with torch.no_grad():
        for k, sigma in enumerate(f["in.sigma_list"]):
            f.check(f"out.edm_{k}", edm(x * (1 + sigma), sigma))
        for k, sigma in enumerate(f["in.sigma_vp"]):
            f.check(f"out.vp_{k}", vp(x, sigma))
        f.check("out.edm_mixed", edm(x, mixed))
        f.check("out.edm_aug", edm(x, mixed, f["in.augment_labels"]))
        f.check("out.edm_small", edm(f["in.x_small"], torch.tensor(0.3)))
        f.check("out.F_mixed", net(x, torch.tensor([0.1, -0.5])))


class InOrder:
    """Recorded draws in their order."""

    def __init__(self, draws):
        self.draws = list(draws)

    def normal_like(self, images):
        return self.draws.pop(0)


@pytest.mark.parametrize(("tag", "eta"), [("ddpm", 1.0), ("ddim", 0.0)])
def test_gradual_noise_scheduling_with_its_gradient(fixture, tag, eta):
    f = fixture("robust-eval-ddpm")
    run = next(run for run in f.config["runs"] if run["tag"] == tag)
    levels = list(zip(run["max_timesteps"], run["num_denoising_steps"], strict=True))
    net = TinyEps(3)
    net.load_state_dict({k.removeprefix("net."): v for k, v in f.weights().items()})
    purifier = DDIM(
        VPDenoiser(net, integer_steps=True), stages=[(t, n, 1) for t, n in levels], eta=eta
    )
    for r, (_, steps) in enumerate(purifier.stages):
        f.check(f"out.{tag}.steps_{r}", torch.tensor(steps))
    x = f["in.x"].requires_grad_()
    purified = purifier(x, InOrder(f[f"in.{tag}.noise"]))
    f.check(f"out.{tag}.labels", torch.tensor(net.labels, dtype=torch.float32))
    f.check(f"out.{tag}.y", purified.detach())
    (gradient,) = torch.autograd.grad((f["in.cotangent"] * purified).sum(), x)
    f.check(f"out.{tag}.grad", gradient)
