"""Attacks whose perturbation keeps to low frequencies."""

import pytest
import torch
from torch import nn

from puriflow.attacks import apgd, pgd
from puriflow.attacks.ball import Ball
from puriflow.attacks.bands import dct_basis, low_pass
from puriflow.attacks.base import Batch, cross_entropy
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise

INDICES = [3, 8]
ATTACKS = {
    "pgd": lambda **o: pgd.build(step_size="2/255", n_iter=10, **o),
    "pgd, clean start": lambda **o: pgd.build(
        step_size="2/255", n_iter=10, random_start=False, **o
    ),
    "apgd": lambda **o: apgd.build(n_iter=10, **o),
}


def batch():
    torch.manual_seed(0)
    classifier = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3, 2), nn.Flatten(), nn.Linear(1568, 5)
    )
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    return Batch(Defence(None, None, classifier), images, labels, AttackNoise(0, INDICES))


def share_of_energy(delta, bands):
    """Of each image in its lowest bands."""
    basis = dct_basis(32, 32).to(delta)
    energy = (basis @ delta @ basis.T) ** 2
    count = round(32 * bands)
    return energy[..., :count, :count].sum((1, 2, 3)) / energy.sum((1, 2, 3))


def test_the_basis_is_orthonormal_and_its_first_vector_constant():
    basis = dct_basis(9, 9)
    torch.testing.assert_close(basis @ basis.T, torch.eye(9, dtype=torch.float64))
    assert torch.equal(basis[0], torch.full((9,), 1 / 3, dtype=torch.float64))
    changes = (basis[:, 1:].sign() != basis[:, :-1].sign()).sum(1)
    assert changes.tolist() == list(range(9))  # a vector's frequency is its number


def test_low_pass_keeps_low_frequencies_and_drops_all_others():
    x = torch.einsum("ih,jw->ijhw", dct_basis(32, 32)[[1, 9]], dct_basis(24, 24)[[2, 7]])
    kept = low_pass(x.float(), 1 / 4)  # 8 of 32 rows, 6 of 24 columns
    expected = x.float() * torch.tensor([[1.0, 0.0], [0.0, 0.0]])[:, :, None, None]
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("bands", ["1/16", "1/8", "1/4"])
def test_nine_tenths_of_the_perturbation_are_in_its_bands(name, bands):
    b = batch()
    found = ATTACKS[name](eps="8/255", bands=bands)(b)["x_adv"]
    delta = found - b.images
    assert share_of_energy(delta, 1 / 4).min() > 0.9
    every = ATTACKS[name](eps="8/255")(b)["x_adv"] - b.images
    assert share_of_energy(every, 1 / 4).max() < 0.3
    assert delta.abs().max() <= 8 / 255 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        before, after = (cross_entropy(b.classify(x), b.labels) for x in (b.images, found))
    assert (after > before).all()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_all_bands_change_nothing(norm):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = (images + 0.2 * torch.randn(images.shape)).clamp(0, 1)
    plain, all_bands = Ball(0.1, norm), Ball(0.1, norm, 1.0)
    assert torch.equal(plain.project(x, images), all_bands.project(x, images))


def test_bands_that_there_are_not_are_refused():
    with pytest.raises(UserError, match=r"bands must lie in \(0, 1\]"):
        Ball(0.1, "Linf", 1.5)
    with pytest.raises(UserError, match=r"bands is 0\.01, which of 32 pixels is none: 1/32"):
        ATTACKS["pgd"](eps="8/255", bands=0.01)(batch())
