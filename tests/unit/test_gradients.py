"""The gradient through a whole defence is exact, in memory that does not grow with its networks."""

from functools import partial
from operator import attrgetter
from weakref import WeakSet

import pytest
import torch
from tiny_parts import Guide, tiny_purifier
from torch import nn

from puriflow.defence import Defence
from puriflow.diffusion import recomputation
from puriflow.diffusion.denoisers import SigmaDenoiser, VPDenoiser
from puriflow.diffusion.recomputation import Activation, _Recomputed
from puriflow.purifiers.contrastive import Contrastive
from puriflow.purifiers.ddim import DDIM
from puriflow.purifiers.ddpm import DDPM
from puriflow.purifiers.gdmp import GDMP
from puriflow.purifiers.ldsde import LDSDE
from puriflow.purifiers.ode import ODE
from puriflow.purifiers.osd import OSD
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.purifiers.vesde import VESDE
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import kinds
from puriflow.restorers.rescaling import UpDown


class Net(nn.Module):
    """A smooth network of an image and its noise level, of `outputs` channels."""

    def __init__(self, outputs=3):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.level = nn.Linear(1, 8)
        self.last = nn.Conv2d(8, outputs, 3, padding=1)
        self.double()

    def forward(self, x, labels):
        level = self.level(labels.to(x.dtype).reshape(-1, 1) / 1000)
        return self.last(torch.tanh(self.first(x) + level[:, :, None, None]))


class Clean(Net):
    """D, preconditioned as EDM's, so that a little noise changes the image little."""

    def forward(self, x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        c_skip = 0.25 / (0.25 + sigma**2)
        return c_skip * x + sigma * c_skip**0.5 * super().forward(
            x, 1000 * sigma.expand(len(x), 1, 1, 1)
        )


RESIZED = {"resize": 12, "rounds": 2}
PURIFIERS = {
    "vpsde": lambda d: VPSDE(d, t=10, **RESIZED),
    "vpsde, random t": lambda d: VPSDE(d, t=10, t_delta=3, **RESIZED),
    "vpsde, long steps": lambda d: VPSDE(d, t=60, evaluations=12),
    "vpsde, dpm-solver": lambda d: VPSDE(d, t=60, solver="sde-dpmpp", evaluations=4, **RESIZED),
    "vpsde, midpoint": lambda d: VPSDE(
        d, t=60, solver="sde-dpmpp-2m", evaluations=4, t_delta=3, **RESIZED
    ),
    "vesde, heun": lambda d: VESDE(
        d, t=60, solver="sde-dpmpp-2m", evaluations=4, correction="heun", t_delta=3
    ),
    "ode, dpm-solver": lambda d: ODE(d, t=60, solver="dpmpp-2m", evaluations=4, **RESIZED),
    "ode": lambda d: ODE(d, t=10, **RESIZED),
    "ddpm": lambda d: DDPM(d, t=10, t_delta=2, **RESIZED),
    "ddpm, respaced": lambda d: DDPM(d, t=90, respacing=100, clip=False),
    "gdmp": lambda d: GDMP(
        d, t=8, rounds=2, guidance_scale=60.0, perturbation=8 / 255, diffused=True, shared=True
    ),
    "ddpm, staged": lambda d: DDIM(d, stages=[(6, 3, 2), (10, 10, 1)], eta=1.0, **RESIZED),
    "ddim": lambda d: DDIM(d, stages=[(50, 10, 1)], eta=0.0),
    "vesde": lambda d: VESDE(d, t=10, t_delta=3, **RESIZED),
    "ldsde": lambda d: LDSDE(d, t=50, sigma2=1e-3, lambda_ld=1e-2, eta=5.0, **RESIZED),
    "osd": lambda d: OSD(d, t=10, t_delta=3, **RESIZED),
}
OPTIMISED = {"sigma": 0.3, "n_iter": 3, "learning_rate": 0.1, "resize": None}
GUIDED = {"gamma": 50.0, "temperature": 1.0, "start": 1, "sees": "state"}
OPTIMISERS = {
    "contrastive": lambda d: Contrastive(d, Guide(), t=5, shared=False, **GUIDED, **RESIZED),
    "contrastive, shared": lambda d: Contrastive(
        d, Guide(), t=60, evaluations=4, solver="sde-dpmpp-2m", shared=True, **GUIDED
    ),
    "scoreopt-o": lambda d: ScoreOpt(d, method="O", shared=False, **OPTIMISED),
    "scoreopt-o, shared": lambda d: ScoreOpt(d, method="O", shared=True, **OPTIMISED),
    "diffhammer": lambda d: ScoreOpt(d, method="O", rule="diffhammer", shared=False, **OPTIMISED),
    "scoreopt-n": lambda d: ScoreOpt(d, method="N", shared=False, **OPTIMISED),
}
ALL = PURIFIERS | OPTIMISERS
NETWORKS = {
    "noise": lambda: VPDenoiser(Net(), integer_steps=True),
    "noise and variance": lambda: VPDenoiser(Net(6)),
    "D": lambda: SigmaDenoiser(Clean()),
}


def victim(make, network="noise"):
    torch.manual_seed(0)
    up = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)).double()
    up[0].weight.data.mul_(0.3)
    up[0].bias.data.fill_(0.5)  # amid [0, 1], where the restorer clamps nothing
    purifier = make(NETWORKS[network]())
    classifier = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5))
    restorer = UpDown(up, scale=2, downsample="bicubic")
    return Defence(restorer, purifier, classifier.double()).requires_grad_(False)


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)


def purified(defence, x, gradient="full"):
    return defence.purified(x, ImageNoise(0, "test", [3, 8]), gradient)


def gradient_of(function, x):
    """Of a fixed weighting of what a function makes of x."""
    x = x.clone().requires_grad_()
    y = function(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return torch.autograd.grad((y * weights).sum(), x)[0]


def without_recomputation(monkeypatch):
    """Leaves steps to plain autograd; returns a list that they are put in."""
    steps = []

    def direct(step, _, n_inputs, *tensors):
        steps.append(step)
        return step.function(*tensors[:n_inputs])

    monkeypatch.setattr(_Recomputed, "apply", direct)
    return steps


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALL)
def test_recomputing_every_step_gives_the_gradient_of_plain_autograd(name, network, monkeypatch):
    defence = victim(ALL[name], network)
    recomputed = gradient_of(lambda x: purified(defence, x), images())
    steps = without_recomputation(monkeypatch)
    plain = gradient_of(lambda x: purified(defence, x), images())
    assert steps
    assert plain.abs().max() > 0.1
    torch.testing.assert_close(recomputed, plain, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(  # but those of which some steps are others
    "name", sorted(ALL.keys() - {"scoreopt-n", "contrastive", "contrastive, shared"})
)
def test_steps_that_fit_are_computed_once_and_their_gradient_is_the_same(name, monkeypatch):
    defence, calls = victim(ALL[name]), []
    network = defence.purifier.denoiser.network
    network.register_forward_hook(lambda *_: calls.append(None))

    def asked():
        calls.clear()
        gradient = gradient_of(lambda x: purified(defence, x), images())
        assert Activation.total == 0
        return gradient, len(calls)

    (recomputed, twice), (kept, once) = asked(), asked()
    assert 2 * once == twice
    assert torch.equal(kept, recomputed)  # to the last bit, so that it does not matter which
    (size,) = set(recomputation.bytes_of[defence.purifier].values())
    restored = sum(recomputation.bytes_of.get(defence.restorer, {}).values())  # is kept first
    monkeypatch.setattr(recomputation, "KEPT", restored + 1.5 * size)
    one, calls_of_one = asked()
    assert calls_of_one == twice - 1
    assert torch.equal(one, recomputed)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ALL)
def test_the_gradient_is_that_of_central_differences(name, network):
    defence = victim(ALL[name], network)

    def logits(x):
        return defence.classifier(purified(defence, x))

    # Adam's first step is nearly a sign: a short way is needed to see its slope
    x, width, close = images(), 1e-5, {"rtol": 1e-6, "atol": 1e-9}
    if name in OPTIMISERS:
        width, close = 1e-8, {"rtol": 1e-4, "atol": 1e-6}
    weights = torch.randn(2, 5, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    gradient = gradient_of(logits, x)
    for seed in range(3):
        way = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
        ahead, behind = (logits(x + sign * width * way) for sign in (1, -1))
        slope = ((ahead - behind) * weights).sum() / (2 * width)
        torch.testing.assert_close((gradient * way).sum(), slope, **close)


@pytest.mark.parametrize("kind", sorted(kinds("purifiers").keys() - {"pixeldefend"}))  # an argmax
def test_every_kind_has_its_exact_gradient(kind):
    defence = victim(partial(tiny_purifier, kind), "D")
    defence.restorer = None
    if kind == "langevin":  # whose network is its own
        defence.purifier.double()
    x, width, close = images(), 1e-5, {"rtol": 1e-6, "atol": 1e-9}
    if kind in ("aaopt", "contrastive", "scoreopt", "tvm-mask"):  # Adam, and kinks everywhere
        width, close = 1e-8, {"rtol": 1e-4, "atol": 1e-6}
    gradient = gradient_of(lambda x: purified(defence, x), x)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    ahead, behind = (purified(defence, x + sign * width * way) for sign in (1, -1))
    slope = gradient_of(lambda y: y, x) * (ahead - behind) / (2 * width)
    torch.testing.assert_close((gradient * way).sum(), slope.sum(), **close)


def test_what_an_attack_may_leave_out_of_the_gradient():
    defence, x = victim(PURIFIERS["vpsde"]), images()
    exact = gradient_of(lambda x: purified(defence, x), x)
    seen = {
        kind: gradient_of(lambda x, kind=kind: purified(defence, x, kind), x)
        for kind in ("restorer", "identity", "blind")
    }
    torch.testing.assert_close(seen["restorer"], gradient_of(defence.restorer, x))
    assert torch.equal(seen["identity"], gradient_of(lambda x: x, x))
    assert not torch.allclose(exact, seen["restorer"], atol=1e-3)
    classified = gradient_of(lambda x: defence.classifier(purified(defence, x, "blind")), x)
    assert torch.equal(classified, gradient_of(defence.classifier, x))
    # whatever the gradient, the images are those of the exact one; blind ones are not purified
    for kind in ("restorer", "identity"):
        assert torch.equal(purified(defence, x, kind), purified(defence, x))
    assert torch.equal(purified(defence, x, "blind"), x)


def saved_bytes(purifier, x):
    """What the graph of a purification keeps for its backward pass, each storage once.

    An optimiser's own gradients have graphs too, which are gone when a step is done.
    """
    kept = WeakSet()

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # else an output would hold its graph
            kept.add(self)

    with torch.autograd.graph.saved_tensors_hooks(Kept, attrgetter("tensor")):
        out = purifier(x.requires_grad_(), ImageNoise(0, "test", [3, 8]))
    assert out.requires_grad
    storages = [k.tensor.untyped_storage() for k in kept]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


# and how many images a step saves: DDPM's noise is saved, since the network may scale it
LONGER = {
    "vpsde": (lambda d, t: VPSDE(d, t=t), 1),
    "ode": (lambda d, t: ODE(d, t=t), 1),
    "ddpm": (lambda d, t: DDPM(d, t=t), 2),
    "ddim": (lambda d, t: DDIM(d, stages=[(t, t, 1)], eta=1.0), 1),
    "vesde": (lambda d, t: VESDE(d, t=t), 1),
    "ldsde": (lambda d, t: LDSDE(d, t=10 * t, sigma2=1e-3, lambda_ld=1e-2, eta=5.0), 1),
    # x, m, v and the noise, and two levels
    "scoreopt-o": (
        lambda d, t: ScoreOpt(d, method="O", shared=False, **{**OPTIMISED, "n_iter": t}),
        4.01,
    ),
    "scoreopt-n": (
        lambda d, t: ScoreOpt(d, method="N", shared=False, **{**OPTIMISED, "n_iter": t}),
        4.01,
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", LONGER)
def test_a_longer_trajectory_saves_one_image_a_step_more(name, network):
    make, saved = LONGER[name]
    denoiser = NETWORKS[network]().requires_grad_(False)
    short, long = (saved_bytes(make(denoiser, t), images()) for t in (10, 100))
    assert 0 < long - short <= 90 * saved * images().nbytes


def test_the_networks_parameters_have_their_gradient_too(monkeypatch):
    purifier = LDSDE(NETWORKS["noise"](), t=50, sigma2=1e-3, lambda_ld=1e-2, eta=5.0)

    def gradients():
        out = purifier(images(), ImageNoise(0, "test", [3, 8]))
        return torch.autograd.grad(out.sum(), list(purifier.parameters()))

    found = gradients()
    steps = without_recomputation(monkeypatch)
    plain = gradients()
    assert steps
    for got, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-12)


class Saving(nn.Module):
    """A network of whose layers some keep their output, where others keep their input."""

    def forward(self, x, labels):
        return x * x.flatten(1).softmax(1).reshape(x.shape).sigmoid().relu()


@pytest.mark.parametrize("name", ["vpsde", "scoreopt-o"])
def test_steps_that_are_computed_again_are_held_against_the_first_time(name):
    defence = victim(ALL[name])
    with recomputation.watched() as watch:
        gradient_of(lambda x: purified(defence, x), images())
    assert watch.steps > 2
    assert watch.said() == {"recomputation": "equal to the last bit"}
    with recomputation.watched() as nothing:
        purified(defence, images())
    assert nothing.said() == {}


def test_a_step_that_comes_out_otherwise_is_counted():
    defence, calls = victim(PURIFIERS["vpsde"]), []
    steps = 10

    def other(module, inputs, output):
        """As another kernel would, in one of the steps of the second time."""
        calls.append(None)
        return output * (1 + 1e-12) if len(calls) == steps * 2 + 3 else output

    defence.purifier.denoiser.network.register_forward_hook(other)
    with recomputation.watched() as watch:
        gradient_of(lambda x: purified(defence, x), images())
    assert watch.said() == {"recomputation": f"1 of {watch.steps} steps gave another state"}


def test_what_is_never_differentiated_is_not_kept_for_ever():
    purifier = ODE(VPDenoiser(Saving()), t=10)
    noise = ImageNoise(0, "test", [3, 8])
    gradient_of(lambda x: purifier(x, noise), images())
    for _ in range(2):
        out = purifier(images().requires_grad_(), noise)
        assert Activation.total > 0
        del out
        assert Activation.total == 0


def test_a_purification_without_gradient_keeps_nothing():
    defence = victim(PURIFIERS["vpsde"])
    with torch.no_grad():
        assert not purified(defence, images().requires_grad_()).requires_grad
    assert not purified(defence, images()).requires_grad


def test_second_derivatives_are_refused():
    x, purifier = images().requires_grad_(), PURIFIERS["ode"](NETWORKS["noise"]())
    out = purifier(x, ImageNoise(0, "test", [3, 8]))
    (first,) = torch.autograd.grad((out**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
