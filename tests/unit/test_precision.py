"""A diffusion network in less than float32: what of it, how near it stays, and its gradient."""

import pytest
import torch
from tiny_parts import OPTIONS, build_tiny
from torch import nn

from puriflow.config import load_config
from puriflow.config.track import Compute
from puriflow.diffusion import recomputation
from puriflow.errors import UserError
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import kinds

WIDE = {
    "adm": {"model_channels": 16, "num_head_channels": 16},
    "ddpmpp": {"channels": 16},
    "edm": {"channels": 16},
    "ncsnv2": {"ngf": 16},
}


def network(kind, precision):
    """All weights are random: an output that begins at zero would be exact in any precision."""
    denoiser = build_tiny("networks", kind, **{**WIDE[kind], "precision": precision}).eval()
    generator = torch.Generator().manual_seed(3)
    for p in denoiser.requires_grad_(False).parameters():
        if p.ndim > 1:
            scale = p[0].numel() ** -0.5
            p.copy_(scale * torch.randn(p.shape, generator=generator))
    return denoiser


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_network_has_the_option():
    assert set(kinds("networks")) == set(WIDE) == set(OPTIONS["networks"])


# How near to float32 at least, and at most: another number would be another precision.
NEAR = {"bfloat16": (1e-4, 0.03), "float16": (1e-5, 0.004)}
COSINE = {"bfloat16": 0.98, "float16": 0.999}
FARTHER = {"ncsnv2": 2}  # whose refinement normalises nothing between forty convolutions
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("kind", WIDE)
def test_a_half_is_near_float32_and_not_the_same(kind, precision, x):
    t = torch.tensor(0.09)
    exact = network(kind, "float32").eps(x, t)
    low = network(kind, precision).eps(x, t)
    assert low.dtype == torch.float32
    least, most = NEAR[precision]
    most *= FARTHER.get(kind, 1)
    assert least < (low - exact).norm() / exact.norm() < most


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("kind", WIDE)
def test_only_convolutions_inside_are_in_it(kind, precision, x):
    denoiser = network(kind, precision)
    types = {}
    for module in denoiser.modules():
        if isinstance(module, nn.Conv2d | nn.GroupNorm | nn.Linear):
            inside = isinstance(module, nn.Conv2d) and min(module.weight.shape[:2]) > 3
            types.setdefault(inside, set())
            module.register_forward_hook(lambda _, i, o, of=types[inside]: of.add(o.dtype))
    denoiser.eps(x, torch.tensor(0.09))
    assert types == {False: {torch.float32}, True: {HALVES[precision]}}


@pytest.mark.parametrize("precision", NEAR)
def test_the_softmax_of_attention_is_in_float32(precision, x, monkeypatch):
    softmax, seen = torch.softmax, set()

    def watched(*given, **options):
        made = softmax(*given, **options)
        seen.add((given[0].dtype, made.dtype))
        return made

    denoiser = network("adm", precision)
    monkeypatch.setattr(torch, "softmax", watched)
    denoiser.eps(x, torch.tensor(0.09))
    assert seen == {(HALVES[precision], torch.float32)}


def gradient(denoiser, x, scale=1.0):
    noise = ImageNoise(0, "test", [3, 8])
    x = ((x + 1) / 2).requires_grad_()
    purified = VPSDE(denoiser, t=60, solver="sde-dpmpp", evaluations=3)(x, noise)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)) * scale
    return torch.autograd.grad((purified * weights).sum(), x)[0]


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("kind", WIDE)
def test_the_gradient_is_that_of_what_was_computed(kind, precision, x, monkeypatch):
    """Steps that are computed again have the precision of the first time, whoever computes them."""
    low = network(kind, precision)
    gradient(low, x)  # counts what a step keeps
    kept = gradient(low, x)
    monkeypatch.setattr(recomputation, "KEPT", 0)
    recomputed = gradient(low, x)
    with torch.autocast("cpu", enabled=False):
        inside = gradient(low, x)
    assert torch.equal(kept, recomputed)
    assert torch.equal(kept, inside)
    exact = gradient(network(kind, "float32"), x)
    assert not torch.equal(kept, exact)
    cosine = torch.cosine_similarity(kept.flatten(), exact.flatten(), dim=0)
    assert 1 - cosine < (1 - COSINE[precision]) * FARTHER.get(kind, 1)


@pytest.mark.parametrize("kind", WIDE)
def test_gradients_below_float16s_least_number_are_kept(kind, x):
    """An attack's, through a classifier that is sure of itself, may be as small."""
    low = network(kind, "float16")
    large, small = gradient(low, x), gradient(low, x, scale=2.0**-40)
    assert torch.equal(small * 2.0**40, large)


def test_a_gradient_that_float16_cannot_hold_is_nan_and_not_another_one(x):
    low = network("adm", "float16")
    y = x.clone().requires_grad_()
    out = low.eps(y, torch.tensor(0.09))
    weights = torch.ones_like(out)
    weights[1, 0, 0, 0] = torch.inf
    (found,) = torch.autograd.grad(out, y, weights)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


@pytest.mark.parametrize(("precision", "name"), [("float16", "float16"), ("tf32", "TF32")])
def test_it_refuses_a_purifier_that_is_a_gradient(precision, name, x):
    options = {"sigma": 0.5, "n_iter": 1, "learning_rate": 0.1, "shared": False, "resize": None}
    purifier = ScoreOpt(network("edm", precision), method="O", **options)
    with pytest.raises(UserError, match=f"{name} has no second derivative"):
        purifier((x + 1) / 2, ImageNoise(0, "test", [3, 8]))


@pytest.mark.parametrize("kind", WIDE)
def test_tf32_is_on_within_the_network_and_its_gradient_alone(kind, x):
    """A CPU computes in float32 all the same; what a GPU goes by is looked at."""

    def flags():
        return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision

    seen = {"forwards": set(), "gradient": set()}
    denoiser = network(kind, "tf32")
    for module in denoiser.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: seen["forwards"].add(flags()))
            module.register_full_backward_hook(lambda *_: seen["gradient"].add(flags()))
    before = flags()
    found = gradient(denoiser, x)
    assert seen == {"forwards": {("tf32", "tf32")}, "gradient": {("tf32", "tf32")}}
    assert flags() == before != ("tf32", "tf32")
    assert torch.equal(found, gradient(network(kind, "float32"), x))


def test_tf32_is_off_again_after_an_error_on_the_way_back(x):
    """Else all that a job computes after it ran out of memory would be TF32."""
    before = torch.backends.cuda.matmul.fp32_precision
    denoiser = network("adm", "tf32")

    def refused(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    denoiser.network.out[0].register_full_backward_hook(refused)
    with pytest.raises(torch.OutOfMemoryError):
        gradient(denoiser, x)
    assert torch.backends.cuda.matmul.fp32_precision == before != "tf32"


@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_no_network_is_trained_in_it(precision, x):
    denoiser = network("adm", precision).requires_grad_(True)
    with pytest.raises(UserError, match="train in bfloat16"):
        denoiser.eps(x, torch.tensor(0.09))


@pytest.mark.parametrize("role", ["network", "denoiser"])
def test_the_tracks_precision_is_that_of_its_networks(repository, role):
    track = load_config(repository / "config" / "config.yaml")
    lower = track.model_copy(update={"compute": Compute(precision="float16")})
    assert "precision" not in track.part(role, "adm").options
    part = lower.part(role, "adm")
    assert part.options["precision"] == "float16"
    assert part.untrained() == track.part(role, "adm").untrained()
    own = lower.networks["adm"].model_copy(update={"precision": "bfloat16"})
    lower = lower.model_copy(update={"networks": {**lower.networks, "adm": own}})
    assert lower.part(role, "adm").options["precision"] == "bfloat16"


@pytest.mark.parametrize("kind", WIDE)
def test_another_precision_is_refused(kind):
    with pytest.raises(UserError, match="precision"):
        network(kind, "float8")
