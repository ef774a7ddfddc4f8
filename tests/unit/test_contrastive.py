"""Contrastive guidance against the same written out, with torch's own layers and its Adam."""

import math
from importlib import import_module

import pytest
import torch
from test_purifiers import STD, Noise
from tiny_parts import ADM, Guide
from torch import nn
from torch.nn import functional as F

from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR, alpha_bar, beta
from puriflow.errors import UserError
from puriflow.lineage import _is_of
from puriflow.purifiers.contrastive import Contrastive, contrastive_loss
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import ImageNoise
from puriflow.registry import part_of

GIVEN = {"t": 6, "gamma": 4000.0, "temperature": 2.0, "start": 2, "sees": "state"}


def contrastive(shared=False, **changes):
    return Contrastive(VPDenoiser(Noise()), Guide(), shared=shared, **{**GIVEN, **changes})


def images(count=3):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def loss_by_hand(z0, z, temperature):
    """L, term by term, of embeddings (batch, classes)."""
    batch, views, terms = len(z), [*z0, *z], []

    def similar(a, b):
        return (F.cosine_similarity(a, b, dim=0) / temperature).exp()

    for i, view in enumerate(views):
        neg = [similar(view, other) for j, other in enumerate(views) if j % batch != i % batch]
        neg = neg or [similar(view, z0[0])]
        n = max(2 * batch - 2, 2)
        hard = sum(x * x for x in neg) / (sum(neg) / len(neg))
        for j in range(batch):
            pos = similar(z0[i % batch], z[j])
            least = n * math.exp(-1 / temperature)
            ng = ((hard - 0.1 * n * pos) / 0.9).clamp_min(least)
            terms.append(-(pos / (pos + ng)).log())
    return sum(terms) / len(terms)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_the_loss_is_the_published_one(batch, temperature):
    z0, z = torch.randn(2, batch, 4, generator=torch.Generator().manual_seed(batch)).double()
    found = contrastive_loss(z0[None], z[None], temperature)
    torch.testing.assert_close(found[0], loss_by_hand(z0, z, temperature))


class Head(nn.Module):
    """H, of linear layers whose weights are those drawn for an image."""

    def __init__(self, drawn):
        super().__init__()
        classes = 4
        self.layers = nn.ParameterList()
        for block in drawn.reshape(3, 3, -1):
            first, second, third = block.double()
            self.layers += [
                nn.Parameter(first.reshape(classes, 2 * classes) / classes**0.5),
                nn.Parameter(second.reshape(classes, 2 * classes) / classes**0.5),
                nn.Parameter(third.reshape(2 * classes, classes) / (2 * classes) ** 0.5),
            ]

    def forward(self, z):
        for i in range(0, 9, 3):
            w1, w2, w3 = self.layers[i : i + 3]
            z = z + (F.silu(z @ w1) * (z @ w2)) @ w3
        return z


def by_hand(given, noise):
    """The purifier of one batch on [-1, 1], in float64, with the draws of `noise`."""

    def draw():
        return noise.normal_like(given.float()).double()

    bar = float(DISCRETE_ALPHA_BAR[GIVEN["t"] - 1])
    x = bar**0.5 * given + (1 - bar) ** 0.5 * draw()
    times, before, head = VPSDE(VPDenoiser(Noise()), t=GIVEN["t"]).times, None, None
    for k in range(GIVEN["t"]):
        t, dt = times[k], times[k] - times[k + 1]
        std = (1 - alpha_bar(t)).sqrt()
        eps = x * std / (alpha_bar(t) * STD**2 + std**2)
        if k >= GIVEN["start"]:
            if head is None:
                head = Head(noise.uniform_like(torch.empty(len(x), 3, 3, 32), -1, 1)[0])
                adam = torch.optim.Adam(head.parameters(), lr=0.01)
            moved = x.clone().requires_grad_()
            loss = loss_by_hand(head(Guide()(before)), head(Guide()(moved)), GIVEN["temperature"])
            adam.zero_grad()
            loss.backward()
            adam.step()
            eps = eps + GIVEN["gamma"] * moved.grad
        before = x
        drift = 0.5 * beta(t) * x - beta(t) * eps / std
        x = x + drift * dt + (beta(t) * dt).sqrt() * draw()
    return x


def test_an_image_is_purified_as_a_published_batch_of_its_own():
    given = images(1)
    expected = by_hand(given * 2 - 1, ImageNoise(0, "test", [5]))
    for shared in (False, True):
        found = contrastive(shared)(given, ImageNoise(0, "test", [5])) * 2 - 1
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    unguided = contrastive(gamma=0.0)(given, ImageNoise(0, "test", [5])) * 2 - 1
    assert (unguided - expected).abs().max() > 0.01


def test_a_shared_batch_is_the_published_one():
    given = images(3)
    found = contrastive(shared=True)(given, ImageNoise(0, "test", [4, 5, 6])) * 2 - 1
    expected = by_hand(given * 2 - 1, ImageNoise(0, "test", [4, 5, 6]))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    alone = contrastive(shared=True)(given[1:2], ImageNoise(0, "test", [5])) * 2 - 1
    assert not torch.allclose(found[1:2], alone, atol=1e-3)


def test_nothing_is_kept_from_one_purification_to_the_next():
    purifier, (first, second) = contrastive(), images(2).split(1)
    alone = purifier(second, ImageNoise(0, "test", [5]))
    purifier(first, ImageNoise(0, "test", [4]))
    assert torch.equal(purifier(second, ImageNoise(0, "test", [5])), alone)


@pytest.mark.parametrize("solver", ["euler-maruyama", "sde-dpmpp-2m"])
def test_states_before_the_first_guided_evaluation_are_the_sde_s(solver):
    """The head is drawn before it, and not before the noise of other steps."""

    def states(purifier):
        seen = []
        purifier(images(), ImageNoise(0, "test", [4, 5, 6]), lambda *step: seen.append(step[-1]))
        return seen

    guided = states(contrastive(solver=solver))
    plain = states(VPSDE(VPDenoiser(Noise()), t=6, solver=solver))
    assert torch.equal(guided[1], plain[1])
    assert not torch.allclose(guided[2], plain[2])


def test_the_classifier_may_see_images():
    one, other = (
        contrastive(sees=what)(images(1), ImageNoise(0, "test", [5])) for what in ("state", "image")
    )
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("start", "most"), [(6, 5), (40, 5)])
def test_a_trajectory_without_guidance_is_refused(start, most):
    with pytest.raises(UserError, match=f"start is {start}, but must be at most {most}"):
        contrastive(start=start)


def test_the_guide_is_a_part_of_its_own():
    guide = {"kind": "wide-resnet", "weights": None, "depth": 10, "widen_factor": 1}
    entry = {"kind": "contrastive", "network": ADM, "classifier": guide}
    part = part_of("purifier", "p", entry)
    assert [inner.kind for inner in part.parts()] == ["contrastive", "adm", "wide-resnet"]
    assert part.inner["classifier"].role == "classifier"
    assert part.entry()["classifier"]["depth"] == 10
    assert import_module("puriflow.classifiers.wide_resnet").__name__ in part.modules()
    deeper = part_of("purifier", "p", {**entry, "classifier": {**guide, "depth": 16}})
    assert _is_of(part.complete(), part)
    assert not _is_of(part.complete(), deeper)
    with pytest.raises(UserError, match=r"config purifiers\.p: contrastive needs classifier"):
        part_of("purifier", "p", {**entry, "classifier": None})
