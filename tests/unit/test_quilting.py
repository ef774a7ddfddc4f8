"""Image quilting: the search, the cut, the whole, and how its index comes about."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_parts import build_tiny

from puriflow.errors import UserError
from puriflow.registry import part_of
from puriflow.restorers.quilting import PatchIndex, Quilting, left_of_cut, seam
from puriflow.training.runs import train_part


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_the_nearest_patch_is_found():
    index = PatchIndex(300, 4).requires_grad_(False)
    asked = random(50, 3, 4, 4)
    distances = (asked[:, None] - index.patches[None]).square().sum((2, 3, 4))
    assert torch.equal(index(asked), index.patches[distances.argmin(1)])


def test_the_cut_is_the_cheapest_of_all():
    error = random(20, 4, 3)
    before = left_of_cut(error)
    cut = before.sum(2)
    assert torch.equal(before, torch.arange(3) < cut[:, :, None])
    assert (cut.diff(dim=1).abs() <= 1).all()
    ways = [w for w in itertools.product(range(3), repeat=4) if (np.abs(np.diff(w)) <= 1).all()]
    for one, at in zip(error, cut, strict=True):
        costs = [sum(float(one[row, column]) for row, column in enumerate(way)) for way in ways]
        found = sum(float(one[row, int(column)]) for row, column in enumerate(at))
        assert found == pytest.approx(min(costs))


def test_what_no_patch_shares_is_new():
    old, new = random(2, 3, 5, 5), random(2, 3, 5, 5) + 1
    assert not seam(old, new, 0, 0).any()
    kept = seam(old, new, 2, 2)
    assert not kept[..., 2:, 2:].any()
    assert not torch.isin(torch.where(kept, old, new), new)[..., :1, :1].all()  # of both patches
    cut = left_of_cut((old - new).square().sum(1)[..., :2])
    assert torch.equal(seam(old, new, 0, 2)[:, 0, :, :2], cut)


@pytest.mark.parametrize("size", [(5, 5), (11, 16), (23, 14)])
def test_an_image_that_the_index_has_comes_out_as_it_was(size):
    image = random(1, 3, *size)
    patches = image.unfold(2, 5, 1).unfold(3, 5, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    index = PatchIndex(len(patches), 5).requires_grad_(False)
    index.patches.copy_(patches)
    assert torch.equal(Quilting(index, overlap=2)(image), image)


def test_every_pixel_is_covered_by_patches_of_the_index():
    quilting = build_tiny("restorers", "quilting")
    out = quilting(random(2, 3, 16, 13))
    assert (out > 0).all()
    assert torch.isin(out, quilting.network.patches).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 5}, "overlap is 5, but must lie between 1 and 4"),
        ({"patch": 99}, "images are 16x13, but quilting has patches of 99 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        build_tiny("restorers", "quilting", **options)(random(1, 3, 16, 13))


def test_the_index_is_trained_from_a_folder_of_photographs(tmp_path):
    photographs = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for i, photograph in enumerate(photographs):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(photograph).save(tmp_path / "photos" / f"{i}.png")
    entry = {"kind": "quilting", "weights": "none.safetensors", "n_patches": 50}
    part = part_of("restorer", "quilting", entry)
    places = {"images": tmp_path / "photos", "out": tmp_path / "out"}
    train_part(part, {"seed": 3}, **places, held_out=1, device=torch.device("cpu"))
    patches = load_file(tmp_path / "out" / "quilting.safetensors")["patches"].float()
    assert patches.shape == (50, 3, 5, 5)
    known = torch.from_numpy(photographs[:3]).permute(0, 3, 1, 2).float() / 255
    cut = known.unfold(2, 5, 1).unfold(3, 5, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    turned = [torch.rot90(cut, k, dims=(2, 3)) for k in range(4)]
    every = torch.cat([*turned, *(t.flip(3) for t in turned)]).flatten(1)
    assert torch.cdist(patches.flatten(1), every).amin(1).max() < 0.01
    card = (tmp_path / "out" / "quilting.md").read_text()
    assert "| 50 | 5 |" in card
    with pytest.raises(UserError, match="recipe of quilting"):
        train_part(part, {"steps": 3}, **places, held_out=1, device=torch.device("cpu"))
