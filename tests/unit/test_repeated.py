"""Super-resolution restorers in rounds (paper, Figure 6)."""

import pytest
import torch

from puriflow.errors import UserError
from puriflow.registry import part_of

KINDS = {
    "bicubic": {},
    "edsr": {"weights": None, "features": 8, "blocks": 1},
    "mdsr": {"weights": None, "features": 8, "blocks": 1},
    "drln": {"weights": None, "features": 8, "groups": [1, 1], "reduction": 4},
    "esrgan": {"weights": None, "features": 8, "blocks": 1, "growth": 4},
}


def build(kind, **options):
    torch.manual_seed(0)
    return part_of("restorer", kind, {"kind": kind, **KINDS[kind], **options}).build()


@pytest.mark.parametrize("kind", KINDS)
def test_rounds_are_the_restorer_on_its_own_image(kind, small_images):
    x = torch.from_numpy(small_images)
    once, thrice = build(kind), build(kind, rounds=3)
    with torch.no_grad():
        first = once(x)
        second = once(first)
        assert torch.equal(build(kind, rounds=2)(x), second)
        assert torch.equal(thrice(x), once(second))
    assert not torch.equal(first, second)
    assert thrice.state_dict().keys() == once.state_dict().keys()


def test_no_round_is_refused():
    with pytest.raises(UserError, match="rounds is 0, but must be 1 or more"):
        build("bicubic", rounds=0)


def test_a_classical_denoiser_has_no_rounds():
    with pytest.raises(UserError, match="option of tvm"):
        part_of("restorer", "tvm", {"kind": "tvm", "rounds": 2})
