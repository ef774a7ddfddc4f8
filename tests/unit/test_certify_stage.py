"""Smoothing real networks and linear ones, whose radius is known, and the stage that does it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tiny_stores import made_by
from torch import nn

from puriflow import Defence, smoothing
from puriflow.config import Certification, validated
from puriflow.diffusion.denoisers import SigmaDenoiser
from puriflow.errors import UserError
from puriflow.metrics.certified import certify
from puriflow.purifiers.osd import OSD
from puriflow.randomness import ImageNoise
from puriflow.registry import part_of
from puriflow.smoothing import OneShot, Smoothed, Smoothing
from puriflow.stages.certify import write_certified
from puriflow.stages.images import write_images
from puriflow.store import Writer

CPU = torch.device("cpu")
SPREAD = 2.0
# Trained, because random weights give one class to every image; and robust to noise.
TRAINED = Path(__file__).parents[2] / "resources" / "wrn-28-10-at.safetensors"
WRN = {"kind": "wide-resnet", "depth": 10, "widen_factor": 2, "weights": str(TRAINED)}
EDM = {"kind": "edm", "channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "weights": None}
NETWORK = {**EDM, "augment_dim": 0, "dropout": 0.0, "attn_resolutions": []}
NUMBERS = {"n0": 5, "n": 40, "alpha": 0.001}


def smoothed_by(sigma=0.25, **entries):
    """The smoothing of parts by their entries."""
    parts = {role: part_of(role, f"the-{role}", entry) for role, entry in entries.items()}
    return Smoothing.of(Certification(**NUMBERS), parts, sigma)


class Linear(nn.Module):
    """Class 1 on one side of a plane w x = c, else class 0."""

    def __init__(self, normal, offset):
        super().__init__()
        self.normal, self.offset = normal, offset

    def forward(self, images):
        side = images.flatten(1) @ self.normal - self.offset
        return torch.stack([torch.zeros_like(side), side], dim=1)


class Recorder(nn.Module):
    """Keeps what it is asked, and always answers class 2 of 3."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.clone())
        return torch.tensor([[0.0, 0.0, 1.0]]).expand(len(images), -1)


class Clean(nn.Module):
    """D for images of N(0, SPREAD^2) on [-1, 1]."""

    def forward(self, x, sigma):
        return SPREAD**2 / (SPREAD**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * x


def image(size=4):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(3))


def noise(index, draw, like):
    return ImageNoise(0, "certify", [index], [draw]).normal_like(like[None])[0]


def test_a_linear_classifier_has_the_radius_of_its_margin():
    sigma, alpha, n = 0.5, 0.001, 4000
    normal = torch.randn(48, generator=torch.Generator().manual_seed(0))
    x = image()
    base = Linear(normal, 0.0)
    for index, margin in enumerate((-0.9, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.9)):
        # the plane lies at this L2 distance from the image
        base.offset = x.flatten() @ normal - margin * normal.norm()
        smoothed = Smoothed(Defence(None, None, base), sigma, seed=0)
        selection = smoothed.counts(x, index, range(50))
        found = certify(selection, smoothed.counts(x, index, range(50, 50 + n)), sigma, alpha)
        assert found.prediction == (margin > 0)
        assert found.radius <= abs(margin)
        # p is known to about 3 of its standard errors, twice: the bound's own and the sample's
        chance = norm.cdf(abs(margin) / sigma)
        width = 6 * (chance * (1 - chance) / n) ** 0.5 * sigma / norm.pdf(abs(margin) / sigma)
        assert found.radius >= abs(margin) - width


def test_no_change_within_the_radius_changes_the_answer():
    normal = torch.randn(48, generator=torch.Generator().manual_seed(0))
    x = image()
    base = Linear(normal, x.flatten() @ normal - 0.3 * normal.norm())
    smoothed = Smoothed(Defence(None, None, base), 0.5, seed=0)
    counts = smoothed.counts(x, 0, range(2000))
    found = certify(counts, counts, 0.5, 0.001)
    worst = -found.radius * (normal / normal.norm()).reshape(x.shape)
    assert smoothed.counts(x + 0.99 * worst, 0, range(4000)).argmax() == 1
    assert smoothed.counts(x + 2 * worst, 0, range(4000)).argmax() == 0


def test_the_noise_has_sigma_on_the_unit_range_and_belongs_to_image_and_draw():
    base = Recorder()
    x = image(32)
    Smoothed(Defence(None, None, base), 0.25, seed=0).counts(x, 7, range(3, 40))
    seen = torch.cat(base.seen)
    assert [len(block) for block in base.seen] == [32, 5]
    for position, draw in ((0, 3), (36, 39)):
        torch.testing.assert_close(seen[position], x + 0.25 * noise(7, draw, x), rtol=0, atol=0)
    assert (seen - x).std().item() == pytest.approx(0.25, rel=0.01)
    assert seen.min() < 0  # not clamped
    assert not torch.equal(noise(7, 3, x), noise(8, 3, x))


def test_counts_do_not_depend_on_how_draws_are_cut(monkeypatch):
    torch.manual_seed(0)
    base, x = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), image()
    base[1].bias.data = -base[1].weight @ x.flatten()  # noise alone decides among ten classes
    defence = Defence(None, OSD(SigmaDenoiser(Clean()), t=100), base).requires_grad_(False)
    smoothed = Smoothed(defence, 0.25, seed=0)
    whole = smoothed.counts(x, 3, range(100))
    assert whole.sum() == 100
    assert whole.max() < 60
    parts = smoothed.counts(x, 3, range(7)) + smoothed.counts(x, 3, range(7, 100))
    np.testing.assert_array_equal(parts, whole)
    monkeypatch.setattr(smoothing, "BLOCK", 5)
    np.testing.assert_array_equal(smoothed.counts(x, 3, range(100)), whole)
    assert not np.array_equal(smoothed.counts(x, 4, range(100)), whole)


def test_the_denoiser_removes_twice_sigma_and_adds_nothing():
    base = Recorder()
    denoiser = SigmaDenoiser(Clean())
    x, sigma = image(), 0.25
    smoothed = Smoothed(Defence(None, OneShot(denoiser, sigma), base), sigma, seed=0)
    smoothed.counts(x, 5, range(1))
    noisy = (x + sigma * noise(5, 0, x)) * 2 - 1
    clean = (SPREAD**2 / (SPREAD**2 + (2 * sigma) ** 2) * noisy).clamp(-1, 1)
    torch.testing.assert_close(base.seen[0][0], (clean + 1) / 2)


def test_a_restorer_sees_the_noisy_image_and_the_denoiser_what_it_restored():
    class Halved(nn.Module):
        def forward(self, images):
            return images / 2

    base, x = Recorder(), image()
    defence = Defence(Halved(), OneShot(SigmaDenoiser(Clean()), 0.25), base)
    Smoothed(defence, 0.25, seed=0).counts(x, 5, range(1))
    restored = (x + 0.25 * noise(5, 0, x)) / 2
    expected = OneShot(SigmaDenoiser(Clean()), 0.25)(restored[None], None)
    torch.testing.assert_close(base.seen[0], expected)


def test_a_purifier_adds_noise_of_its_own_to_every_draw():
    base, x = Recorder(), image()
    defence = Defence(None, OSD(SigmaDenoiser(Clean()), t=100), base)
    Smoothed(defence, 0.25, seed=0).counts(x, 5, range(2))
    for draw in range(2):
        drawn = ImageNoise(0, "certify", [5], [draw])
        noisy = x[None] + 0.25 * drawn.normal_like(x[None])
        expected = defence.purifier(noisy, drawn)  # goes on where the smoothing's noise ended
        torch.testing.assert_close(base.seen[0][draw : draw + 1], expected)


@pytest.fixture(scope="module")
def four_small(tmp_path_factory):
    """A finished store of four CIFAR-10 images."""
    out = tmp_path_factory.mktemp("stores") / "0-of-1"
    dataset = part_of("dataset", "cifar10", {"kind": "foolbox", "sample": "cifar10"})
    return write_images(out, dataset, subset=4)


def certified(source, out, batch=1, **changes):
    torch.manual_seed(0)  # of the networks' random weights
    smoothing = smoothed_by(**{"classifier": WRN, "denoiser": NETWORK, **changes})
    return write_certified(source, out, smoothing, seed=0, device=CPU, batch=batch)


def test_the_stage_stores_certificates_of_its_own_counts(four_small, tmp_path):
    made = certified(four_small, tmp_path / "c")
    torch.manual_seed(0)
    smoothing = smoothed_by(classifier=WRN, denoiser=NETWORK)
    smoothed = Smoothed(smoothing.base(), 0.25, seed=0)
    for position, index in enumerate(four_small.read("index")):
        x = torch.from_numpy(four_small.read("images", position, position + 1)[0])
        selection = smoothed.counts(x, int(index), range(5))
        found = certify(selection, smoothed.counts(x, int(index), range(5, 45)), 0.25, 0.001)
        for name, value in found._asdict().items():
            assert made.read(name)[position] == value
    assert any(0 < hits < 40 for hits in made.read("hits"))  # the images are not all easy
    parts = {role: part.complete() for role, part in smoothing.parts.items()}
    assert made.manifest["parameters"] == json.loads(
        json.dumps({"sigma": 0.25, **NUMBERS, **parts})
    )
    np.testing.assert_array_equal(made.read("label"), four_small.read("label"))


def test_the_draws_that_choose_are_not_those_that_bound(four_small, tmp_path, monkeypatch):
    counts, asked = Smoothed.counts, []

    def spied(self, image, index, draws):
        asked.append(draws)
        return counts(self, image, index, draws)

    monkeypatch.setattr(Smoothed, "counts", spied)
    certified(four_small, tmp_path / "c")
    assert len(asked) == 8
    for first, second in zip(asked[::2], asked[1::2], strict=True):
        assert (len(first), len(second)) == (5, 40)
        assert not set(first) & set(second)


def test_batches_of_1_and_3_give_the_same_store(four_small, tmp_path):
    one, three = (certified(four_small, tmp_path / str(b), b) for b in (1, 3))
    assert one.manifest == three.manifest


def test_a_stage_that_died_goes_on_where_it_was(four_small, tmp_path, monkeypatch):
    whole = certified(four_small, tmp_path / "whole")
    counts, asked = Smoothed.counts, []

    def dying(self, image, index, draws):
        asked.append(index)
        if len(set(asked)) == 3:
            raise KeyboardInterrupt
        return counts(self, image, index, draws)

    monkeypatch.setattr(Smoothed, "counts", dying)
    with pytest.raises(KeyboardInterrupt):
        certified(four_small, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    rest: list[int] = []
    monkeypatch.setattr(
        Smoothed, "counts", lambda s, x, i, draws: rest.append(i) or counts(s, x, i, draws)
    )
    resumed = certified(four_small, tmp_path / "killed")
    assert sorted(set(rest)) == sorted(four_small.read("index").tolist()[2:])
    assert resumed.manifest == whole.manifest


def test_other_numbers_are_other_work(four_small, tmp_path):
    first = certified(four_small, tmp_path / "a")
    other = certified(four_small, tmp_path / "b", sigma=0.5)
    assert first.manifest["code"] == other.manifest["code"]
    assert first.manifest["files"] != other.manifest["files"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": 0}, "smoothing: sigma: Input should be greater than or equal to 0.0001"),
        ({"sigma": 64}, r"smoothing: sigma: must be at most 2, of colours on \[0, 1\], but is 64"),
        ({"sigma": -0.25}, "sigma: Input should be greater than or equal to 0.0001"),
        ({"purifier": {"kind": "osd", "t": 9, "network": EDM}}, "a denoiser or a purifier, not"),
        ({"classifier": {"kind": "wide-resnt", "weights": None}}, "did you mean 'wide-resnet'"),
        ({"denoiser": {**NETWORK, "chanels": 8}}, "did you mean 'channels'"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_what_is_impossible_is_said_in_one_line(four_small, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        certified(four_small, tmp_path / "bad", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n0": 0}, "n0: Input should be greater than or equal to 1"),
        ({"n": 0}, "n: Input should be greater than or equal to 1"),
        ({"alpha": 0}, "alpha: Input should be greater than 0"),
        ({"alpha": 1}, "alpha: Input should be less than 1"),
        ({"alhpa": 0.1}, "'alhpa': did you mean 'alpha'"),
    ],
)
def test_impossible_numbers_of_draws_are_said_in_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        validated(Certification, {**NUMBERS, **changes}, "certification")


def test_there_is_a_classifier():
    with pytest.raises(UserError, match="smoothing: give a classifier"):
        smoothed_by(denoiser=NETWORK)


def test_images_that_leave_the_unit_range_are_not_clean(four_small, tmp_path):
    writer = Writer(
        tmp_path / "s",
        "images",
        labels=four_small.read("label"),
        indices=four_small.read("index"),
        provenance=made_by("purify"),
    )
    writer.write(0, {"images": four_small.read("images") + 0.5}, seconds=1)
    with pytest.raises(UserError, match=r"store .*: images must lie in \[0, 1\], but span"):
        certified(writer.finish(), tmp_path / "c")


def test_a_classifier_that_answers_nan_is_stopped():
    base = Linear(torch.full((48,), torch.nan), 0.0)
    with pytest.raises(UserError, match="image 4: logits under noise have NaN"):
        Smoothed(Defence(None, None, base), 0.25, seed=0).counts(image(), 4, range(2))
