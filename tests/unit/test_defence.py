import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_parts import tiny
from torch import nn

from puriflow import Defence
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import beta, diffuse
from puriflow.errors import UserError
from puriflow.purifiers.ode import ODE
from puriflow.purifiers.vesde import VESDE
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise


class Net(nn.Module):
    """A smooth little noise predictor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, x, labels):
        return torch.tanh(self.conv(x))


def defence(kind=VPSDE, **options):
    torch.manual_seed(0)
    purifier = kind(VPDenoiser(Net(), integer_steps=False), t=30, **options)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 4).double())
    restorer = nn.Conv2d(3, 3, 3, padding=1).double()
    return Defence(restorer, purifier, classifier).requires_grad_(False)


def images():
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (VPSDE, {"evaluations": 2}),
        (VPSDE, {"evaluations": 3, "solver": "sde-dpmpp"}),
        (VPSDE, {"evaluations": 4, "solver": "sde-dpmpp-2m"}),
        (VESDE, {"evaluations": 4, "solver": "sde-dpmpp-2m", "correction": "heun"}),
        (ODE, {"evaluations": 4, "solver": "dpmpp-2m"}),
    ],
)
def test_the_gradient_is_that_of_finite_differences(kind, options):
    victim = defence(kind, **options)
    x = images().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: victim(x, [3, 8]), x, atol=1e-5)


def test_recomputing_each_step_changes_no_gradient():
    victim = defence()
    x = images().requires_grad_()
    (recomputed,) = torch.autograd.grad(victim(x).sum(), x)
    purifier = victim.purifier
    plain = images().requires_grad_()  # the same chain by hand, under plain autograd
    noise = ImageNoise(0, "purify", [0, 1])
    state = victim.restorer(plain) * 2 - 1
    state = diffuse(state, 30, noise.normal_like(state))
    for t, t_next in pairwise(purifier.times):
        dt = t - t_next
        drift = 0.5 * beta(t) * state + beta(t) * purifier.denoiser.score(state, t)
        state = state + drift * dt + (beta(t) * dt).sqrt() * noise.normal_like(state)
    (expected,) = torch.autograd.grad(victim.classifier((state + 1) / 2).sum(), plain)
    torch.testing.assert_close(recomputed, expected, rtol=1e-10, atol=1e-12)


def test_noise_belongs_to_the_index_and_the_draw():
    victim, x = defence(), images()
    both = victim(x, [3, 8])
    torch.testing.assert_close(victim(x[1:], [8]), both[1:], rtol=0, atol=1e-12)
    assert not torch.allclose(victim(x, [3, 9])[1], both[1])
    assert not torch.allclose(victim(x, [3, 8], draw=1), both)
    assert torch.equal(victim(x), victim(x, [0, 1]))


def test_parts_may_be_left_out():
    victim, x = defence(), images()
    bare = Defence(None, None, victim.classifier)
    assert torch.equal(bare(x), victim.classifier(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("ask", [Defence.__call__, Defence.purify])
def test_images_of_another_type_than_the_parts_are_refused(ask, dtype):
    victim = defence().float()
    x = images().to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(UserError, match=f"images are {name}, but the defence computes in float32"):
        ask(victim, x)


def test_logits_and_gradient_have_the_type_of_the_images():
    for victim, x in ((defence().float(), images().float()), (defence(), images())):
        logits = victim(x.requires_grad_())
        (grad,) = torch.autograd.grad(logits.sum(), x)
        assert logits.dtype == grad.dtype == x.dtype


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 1, 4, 4), (2, 4, 4, 3), (0,)])
def test_what_is_no_batch_of_images_is_refused(shape):
    with pytest.raises(UserError, match=r"images must be \(N, 3, H, W\), but are \("):
        defence()(torch.rand(shape, dtype=torch.float64))


def test_an_index_for_each_image_is_needed():
    with pytest.raises(UserError, match="2 images, but 3 indices"):
        defence()(images(), [1, 2, 3])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([np.zeros((1, 3, 4, 4))], "images are of ndarray, but must be a torch tensor"),
        ([None], "images are of NoneType"),
        ([torch.zeros(0, 3, 4, 4, dtype=torch.float64)], "give one or more"),
        *(([images(), i], "must be whole numbers") for i in (5, [0.5, 1], [None, 1], ["a", 1])),
        *(([images(), None, draw], "must be whole numbers") for draw in (0.5, "a", None)),
    ],
)
def test_what_python_gives_wrongly_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        defence()(*given)


def test_indices_may_be_of_any_whole_type():
    victim, x = defence(), images()
    for chosen in (np.array([3, 8]), torch.tensor([3, 8]), (3, np.int32(8))):
        assert torch.equal(victim(x, chosen), victim(x, [3, 8]))


PURIFIERS = [("vpsde", {}), ("ddpm", {}), ("osd", {}), ("scoreopt", {"method": "N"}), ("ldsde", {})]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize(("kind", "options"), PURIFIERS)
def test_torch_s_default_type_changes_nothing(kind, options, dtype):
    """Neither noise nor networks nor gradients, of a defence that is built and asked under it."""

    def computed():
        parts = {
            "restorer": tiny("restorers", "edsr"),
            "purifier": tiny("purifiers", kind, **options),
            "classifier": tiny("classifiers", "wide-resnet"),
        }
        torch.manual_seed(0)
        victim = Defence.from_parts(parts, seed=3)
        x = torch.rand(1, 3, 32, 32, generator=generator(), dtype=torch.float32).requires_grad_()
        logits = victim(x, [5])
        return logits, torch.autograd.grad(logits.logsumexp(1).sum(), x)[0]

    def generator():
        return torch.Generator().manual_seed(1)

    expected = computed()
    torch.set_default_dtype(dtype)
    try:
        found = computed()
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def with_modes():
    """A classifier whose logits are others in training mode, and differ from time to time."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 4)
    )


PUT_INTO_TRAINING = {
    "given so": lambda d: d,
    "itself": lambda d: d.train(),
    "by a parent": lambda d: nn.ModuleList([d]).train(),
    "a part": lambda d: d.classifier.train(),
    "a layer": lambda d: d.classifier[2].train(),
    "exchanged": lambda d: setattr(d, "classifier", nn.Sequential(d.classifier, nn.Identity())),
}


@pytest.mark.parametrize("how", PUT_INTO_TRAINING)
def test_a_defence_is_in_evaluation_mode_whatever_its_parts_are_put_into(how):
    network = with_modes().train()
    x = torch.rand(3, 3, 4, 4)
    expected = copy.deepcopy(network).eval()(x)
    victim = Defence(None, None, network)
    PUT_INTO_TRAINING[how](victim)
    assert torch.equal(victim(x), expected)
    PUT_INTO_TRAINING[how](victim)
    torch.testing.assert_close(victim.classify(x[:1]), expected[:1])
    assert not any(module.training for module in victim.modules())


@pytest.mark.parametrize("ask", [Defence.__call__, Defence.purify])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x * 255, r"must lie in \[0, 1\], but span .* to 25\d.*; divide them by 255"),
        (lambda x: x * 2 - 1, r"but span -0\.9\d* to 0\.9\d*; \(x \+ 1\) / 2 brings \[-1, 1\] the"),
        (lambda x: x - 2, "but span -[^;]*$"),
        (lambda x: x * 1.5, "but span [^;]*$"),
        (lambda x: (x + 1).clamp(max=1 + 2**-23), r"to 1\.00000012; clamp them, as .* rounded"),
        (lambda x: x - x.min() - 1e-8, "but span -[^;]*; clamp them"),
        (lambda x: x[:, :, :0], r"must be \(N, 3, H, W\), but are \(\d+, 3, 0, \d+\)$"),
        (lambda x: x * math.nan, "but span nan to nan$"),
    ],
)
def test_images_of_another_range_are_refused(ask, change, says):
    with pytest.raises(UserError, match=says):
        ask(defence(), change(images()))


def test_black_and_white_are_images_and_gradients_pass_the_look_at_them():
    victim, x = Defence(None, None, defence().classifier), images()
    assert victim(torch.stack([torch.zeros_like(x[0]), torch.ones_like(x[0])])).isfinite().all()

    def first(image):
        return victim(image[None])[0, 0]

    (expected,) = torch.autograd.grad(victim(x.requires_grad_())[:, 0].sum(), x)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(first))(x.detach()), expected)
