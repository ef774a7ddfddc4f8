import json
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from puriflow.errors import Problem
from puriflow.training import fitting
from puriflow.training.degradations import Round, bicubic, real
from puriflow.training.photos import Photos
from puriflow.training.runs import train_part
from puriflow.zoo.weights import load_weights, save_weights

RECIPE = {"steps": 6, "batch": 2, "crop": 8, "learning_rate": 1e-3, "warmup": 1}
EDSR = {"kind": "edsr", "weights": None, "features": 8, "blocks": 1}
MDSR = {"kind": "mdsr", "weights": None, "features": 8, "blocks": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six smooth pictures of 260 x 300 pixels."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (13, 15, 3), dtype=np.uint8))
        small.resize((300, 260), Image.Resampling.BICUBIC).save(root / f"{i}.png")
    return root


def train(folder, out, family="restorers", spec=EDSR, **changes):
    train_part(
        family,
        "net",
        spec,
        {**RECIPE, **changes},
        images=folder,
        held_out=2,
        out=out,
        device=torch.device("cpu"),
    )
    return out / "net.safetensors"


def test_a_run_that_was_killed_equals_one_that_was_not(folder, tmp_path, monkeypatch):
    whole = train(folder, tmp_path / "whole")

    monkeypatch.setattr(fitting.time, "monotonic", iter(range(0, 10**6, 200)).__next__)
    original = fitting._save

    def save_and_die(run, step, *state):
        original(run, step, *state)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tmp_path / "killed")
    assert (tmp_path / "killed" / "net.checkpoint").exists()
    monkeypatch.setattr(fitting, "_save", original)
    seeds = []
    derive = fitting.derive
    monkeypatch.setattr(fitting, "derive", lambda *parts: seeds.append(parts) or derive(*parts))
    resumed = train(folder, tmp_path / "killed")
    assert [step for *_, step in seeds] == [3, 4, 5]
    assert resumed.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "killed" / "net.checkpoint").exists()


@pytest.mark.parametrize("family", ["restorers", "networks"])
def test_training_leaves_weights_a_card_and_a_log(folder, tmp_path, tiny_adm, family):
    if family == "restorers":
        weights = train(folder, tmp_path, family, MDSR, degradation="real")
        said = "| real |"
    else:
        weights = train(folder, tmp_path, family, tiny_adm, crop=16)
        said = "| 150 |"
    card = (tmp_path / "net.md").read_text()
    assert said in card
    assert "4 images; 2 others held out (`4.png` to `5.png`)" in card
    line = json.loads((tmp_path / "net.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 6
    assert np.isfinite(line["loss"])
    assert weights.stat().st_size > 1000


def test_the_state_of_another_recipe_is_not_resumed(folder, tmp_path, monkeypatch):
    fresh = train(folder, tmp_path / "fresh", learning_rate=1e-2)
    original = fitting._save
    monkeypatch.setattr(fitting.time, "monotonic", iter(range(0, 10**6, 200)).__next__)

    def save_and_die(*state):
        original(*state)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tmp_path / "other")
    monkeypatch.setattr(fitting, "_save", original)
    assert train(folder, tmp_path / "other", learning_rate=1e-2).read_bytes() == fresh.read_bytes()


def test_training_lowers_the_loss(folder, tmp_path):
    losses = []
    for steps in (2, 60):
        train(folder, tmp_path / str(steps), steps=steps)
        log = (tmp_path / str(steps) / "net.jsonl").read_text()
        losses.append(json.loads(log.splitlines()[-1])["loss"])
    assert losses[1] < 0.8 * losses[0]


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(Problem, match="nowhere does not exist"):
        Photos(tmp_path / "nowhere", held_out=1)
    with pytest.raises(Problem, match="has 6 images, and 6"):
        Photos(folder, held_out=6)
    with pytest.raises(Problem, match="as large as a crop of 1000"):
        Photos(folder, held_out=1).crops(1, 1000, torch.Generator())
    with pytest.raises(Problem, match="did you mean 'steps'"):
        train(folder, tmp_path, stepps=3)
    with pytest.raises(Problem, match="degradation: Input should be 'bicubic' or 'real'"):
        train(folder, tmp_path, degradation="reel")
    with pytest.raises(Problem, match="precision"):
        train(folder, tmp_path, precision="bf16")


def test_the_command_says_what_it_can_train(folder, tmp_path, repository):
    for family, name, words in [
        ("restorer", "edsr-x2", "did you mean 'restorers'"),
        ("restorers", "edsr", "did you mean 'edsr-x2'"),
        ("restorers", "wavelet", "unknown recipe of training.restorers 'wavelet'"),
    ]:
        command = [
            "puriflow",
            "train",
            family,
            name,
            "--images",
            str(folder),
            "--out",
            str(tmp_path),
        ]
        ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
        assert ended.returncode == 2
        assert words in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_degradations_have_the_right_size_and_8_bits(scale):
    photos = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    clean = bicubic(photos, scale)
    bad = real(photos, scale, torch.Generator().manual_seed(0))
    for low in (clean, bad):
        assert low.shape == (3, 3, 48 // scale, 48 // scale)
        torch.testing.assert_close(low * 255, (low * 255).round(), rtol=0, atol=1e-3)
    again = real(photos, scale, torch.Generator().manual_seed(0))
    assert torch.equal(bad, again)


def test_real_degradations_are_noisier_with_more_noise():
    grey = torch.full((8, 3, 64, 64), 0.5)
    spread = [
        real(grey, 2, torch.Generator().manual_seed(0), [Round(gaussian=(s, s), poisson=(0, 0))])
        .std()
        .item()
        for s in (0, 30)
    ]
    assert spread[1] > spread[0] + 0.01


def test_weights_load_strictly_and_nothing_else_does(tmp_path):
    net, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    file = tmp_path / "w.safetensors"
    save_weights(net, file)
    load_weights(torch.nn.Linear(2, 3), file)
    with pytest.raises(Problem, match=r"w\.safetensors does not fit Linear"):
        load_weights(other, file)
    with pytest.raises(Problem, match="does not exist"):
        load_weights(net, tmp_path / "nowhere")
    file.write_bytes(b"not safetensors")
    with pytest.raises(Problem, match="is not a safetensors file"):
        load_weights(net, file)
