"""The project's own fixtures: they need nothing beside the checkout, so they always run."""

import pytest
import torch
from own import NETWORKS, computed, stored


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_returns_what_it_did_when_it_equalled_the_official_one(name):
    expected, got = stored(), computed(name)
    assert torch.equal(got[f"{name}.keys"], expected[f"{name}.keys"])
    for key in (f"{name}.out", f"{name}.grad"):
        # rounding differs between processors; a wrong detail differs by far more
        scale = expected[key].abs().max().item()
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=2e-5 * scale)


def test_a_wrong_detail_would_be_seen(monkeypatch):
    expected = stored()["edm.out"]
    monkeypatch.setattr("puriflow.networks.edm.SKIP_SCALE", 0.7)
    got = computed("edm")["edm.out"]
    assert (got - expected).abs().max() > 1e-3 * expected.abs().max()
