"""Every shared fixture is tested."""

import pytest
from official import FIXTURES

NETWORKS = {
    *("adm", "ddpmpp", "edm", "edsr", "mdsr", "drln", "rrdbnet-x2", "rrdbnet-x4", "rrdbnet-x8"),
    *("wrn", "dmwrn", "diffpure-vpsde"),
}
ALGORITHMS = {
    *("adm-diffusion", "autoattack", "bpda-eot", "pgd-eot", "robust-eval-ddpm", "scoreopt-o"),
    *("binarization", "diffhammer-eval", "diffhammer-lm", "fixed-autoattack", "mefa-langevin"),
}


def test_no_fixture_is_forgotten():
    if not FIXTURES.is_dir():
        pytest.skip("the parity fixtures (shared/parity beside the checkout) are not here")
    there = {folder.name for folder in FIXTURES.iterdir() if folder.is_dir()}
    assert there == NETWORKS | ALGORITHMS
