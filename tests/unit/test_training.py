"""Training: resumed as if never killed, what it leaves behind, and each loss."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_parts import build_tiny, tiny
from torch.nn.functional import cross_entropy

from puriflow.atomic import sha256
from puriflow.config import load_config, validated
from puriflow.errors import UserError
from puriflow.options import fraction
from puriflow.purifiers.langevin import Langevin
from puriflow.registry import Part, Weights, part_of
from puriflow.training import trainer
from puriflow.training.adversarial import GAN, Adversarial
from puriflow.training.classifiers import Adversary, ClassifierRecipe, attacked
from puriflow.training.degradations import Round, bicubic, real
from puriflow.training.energies import EnergyRecipe, Likelihood
from puriflow.training.labelled import Labelled
from puriflow.training.photos import Photos
from puriflow.training.restorers import RestorerRecipe
from puriflow.training.runs import train_part
from puriflow.zoo import weights
from puriflow.zoo.weights import load_weights, save_weights

RECIPE = {"steps": 6, "batch": 2, "crop": 8, "learning_rate": 1e-3, "warmup": 1}
EDSR = tiny("restorers", "edsr")
MDSR = tiny("restorers", "mdsr")
ESRGAN = tiny("restorers", "esrgan")
WRN = tiny("classifiers", "wide-resnet", num_classes=2)
EDM = {
    "channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
    "augment_dim": 0,
}
FEATURES = {"kind": "efficientnet-lite0", "layers": ["stage1"]}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Light and dark icons of 32 pixels, in the folders of a classifier's training."""
    root = tmp_path_factory.mktemp("icons")
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 8)):
        for name, low in (("dark", 0), ("light", 128)):
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six smooth pictures of 260 x 300 pixels."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (13, 15, 3), dtype=np.uint8))
        small.resize((300, 260), Image.Resampling.BICUBIC).save(root / f"{i}.png")
    return root


def train(folder, out, part: Part = EDSR, **changes):
    train_part(
        replace(part, name="net"),
        {**RECIPE, **changes},
        images=folder,
        held_out=2,
        out=out,
        device=torch.device("cpu"),
    )
    return out / "net.safetensors"


class Killed(BaseException):
    """In the place of a signal: no handler of errors takes it."""


@pytest.fixture
def hasty(monkeypatch):
    """A checkpoint after every step, a line of the log after every other one."""
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", -1)
    monkeypatch.setattr(trainer, "LOG_EVERY", 2)


@pytest.fixture
def steps_done(monkeypatch):
    """The steps whose noise is drawn, which are those that are computed."""
    seen = []
    derive = trainer.derive
    monkeypatch.setattr(trainer, "derive", lambda *parts: seen.append(parts[-1]) or derive(*parts))
    return seen


def log_of(folder):
    """The log without its seconds."""
    lines = map(json.loads, (folder / "net.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def kill_after(monkeypatch, step):
    """Kill the next run when the checkpoint of a step is on the disk."""
    original = trainer._save

    def save_and_die(run, done, states):
        original(run, done, states)
        if done.step == step:
            raise Killed

    monkeypatch.setattr(trainer, "_save", save_and_die)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("step", range(1, 7))
def test_a_run_that_was_killed_equals_one_that_was_not(
    folder, tmp_path, monkeypatch, steps_done, step
):
    whole = train(folder, tmp_path / "whole")
    steps_done.clear()
    with monkeypatch.context() as patch:
        kill_after(patch, step)
        with pytest.raises(Killed):
            train(folder, tmp_path / "killed")
    assert (tmp_path / "killed" / "net.checkpoint").exists()
    assert steps_done == list(range(step))
    with (tmp_path / "killed" / "net.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')  # of a later step, cut off
    resumed = train(folder, tmp_path / "killed")
    assert steps_done == list(range(6))  # each once, none after the last
    assert resumed.read_bytes() == whole.read_bytes()
    assert log_of(resumed.parent) == log_of(whole.parent)
    assert [line["step"] for line in log_of(whole.parent)] == [2, 4, 6]
    assert names_in(resumed.parent) == names_in(whole.parent) == RESULTS


RESULTS = {"net.safetensors", "net.safetensors.sha256", "net.md", "net.png", "net.jsonl"}


def names_in(folder):
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("at", ["save_weights", "load_weights", "loss.plot", "card", "write_text"])
def test_a_kill_after_the_last_step_trains_nothing_again(
    folder, tmp_path, monkeypatch, steps_done, at
):
    whole = train(folder, tmp_path / "whole")
    steps_done.clear()

    def killed(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"puriflow.training.runs.{at}", killed)
        with pytest.raises(Killed):
            train(folder, tmp_path / "killed")
    assert "net.md" not in names_in(tmp_path / "killed")
    (tmp_path / "killed" / "net.jsonl").unlink()
    again = train(folder, tmp_path / "killed")
    assert steps_done == list(range(6))
    assert again.read_bytes() == whole.read_bytes()
    assert log_of(again.parent) == log_of(whole.parent)
    assert names_in(again.parent) == RESULTS
    cards = [(out.parent / "net.md").read_text().splitlines() for out in (whole, again)]
    assert len(cards[0]) == len(cards[1]) > 8
    assert [a for a, b in zip(*cards, strict=True) if a != b and "- time:" not in a] == []


@pytest.mark.usefixtures("hasty")
def test_a_damaged_checkpoint_is_dropped_with_a_line(
    folder, tmp_path, monkeypatch, steps_done, capsys
):
    whole = train(folder, tmp_path / "whole")
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            train(folder, out)
    sealed = (out / "net.checkpoint").read_bytes()
    random = np.random.default_rng(0)
    damaged = [b"", sealed[: len(sealed) // 2], sealed + b"!"]
    for bit in random.integers(0, 8 * len(sealed), 5).tolist():
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for content in damaged:
        (out / "net.checkpoint").write_bytes(content)
        steps_done.clear()
        capsys.readouterr()
        assert train(folder, out).read_bytes() == whole.read_bytes()
        assert steps_done == list(range(6))
        said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
        assert said == [
            f"puriflow: {out / 'net.checkpoint'} was damaged: it is dropped, and what it held is "
            "made anew"
        ]
        assert names_in(out) == RESULTS


@pytest.mark.usefixtures("hasty")
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    folder, tmp_path, monkeypatch, steps_done
):
    whole = train(folder, tmp_path / "whole")
    write = trainer.write_sealed
    written = []

    def killed(path, content):
        if len(written) == 2:
            path.with_name("half of it").write_bytes(content[:100])
            raise Killed
        written.append(write(path, content))

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_sealed", killed)
        with pytest.raises(Killed):
            train(folder, tmp_path / "killed")
    steps_done.clear()
    assert train(folder, tmp_path / "killed").read_bytes() == whole.read_bytes()
    assert steps_done == [2, 3, 4, 5]


@pytest.mark.usefixtures("hasty")
def test_a_full_disk_loses_no_step_that_was_saved(folder, tmp_path, monkeypatch, steps_done):
    whole = train(folder, tmp_path / "whole")
    write = trainer.write_sealed
    written = []

    def full(path, content):
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        written.append(write(path, content))

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write_sealed", full)
        with pytest.raises(OSError, match="No space left"):
            train(folder, tmp_path / "full")
    steps_done.clear()
    assert train(folder, tmp_path / "full").read_bytes() == whole.read_bytes()
    assert steps_done == [3, 4, 5]


@pytest.mark.parametrize("section", ["restorers", "networks"])
def test_training_leaves_weights_a_card_and_a_log(folder, tmp_path, tiny_adm, section):
    if section == "restorers":
        weights = train(folder, tmp_path, MDSR, degradation="real")
        said = "| real |"
    else:
        weights = train(folder, tmp_path, part_of("network", "net", tiny_adm), crop=16)
        said = "| 150 |"
    card = (tmp_path / "net.md").read_text()
    assert said in card
    assert "4 images; 2 others held out (`4.png` to `5.png`)" in card
    line = json.loads((tmp_path / "net.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 6
    assert np.isfinite(line["loss"])
    assert weights.stat().st_size > 1000


@pytest.mark.usefixtures("hasty")
def test_an_energy_learns_and_goes_on_with_its_chains(classes, tmp_path, monkeypatch):
    """By denoising, then by likelihood as well, whose chains are in the checkpoint."""
    part = tiny("purifiers", "langevin", image_size=32, step_size=0.02, noise=0.02)
    changes = {"crop": 32, "denoising": 3, "langevin": 2, "chains": 4, "precision": "float32"}
    whole = train(classes, tmp_path / "whole", part, **changes)
    card = (tmp_path / "whole" / "net.md").read_text()
    assert "| 200 |" in card
    assert "40 images; 2 others held out" in card
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(Killed):
            train(classes, tmp_path / "killed", part, **changes)
    again = train(classes, tmp_path / "killed", part, **changes)
    assert again.read_bytes() == whole.read_bytes()
    assert log_of(again.parent) == log_of(whole.parent)
    other = train(classes, tmp_path / "other", part, **{**changes, "denoising": 6})
    assert other.read_bytes() != whole.read_bytes()


class Offset(torch.nn.Module):
    """An energy that is higher the more its weight says so, and the lighter the image is."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return self.weight * x.flatten(1).mean(1)


def test_likelihood_lowers_an_energy_at_images_and_raises_it_at_chains():
    """The slope that is meant, of chains that are lighter than all images: up with the weight."""
    recipe = EnergyRecipe(steps=1, batch=2, crop=8, chains=2, langevin=1, likelihood=1.0)
    losses = Likelihood(Langevin(Offset(), n_iter=1, step_size=0.1, noise=0.0), recipe)
    losses.chains += 0.9
    images, none = torch.zeros(2, 3, 8, 8), torch.empty(0, dtype=torch.int64)
    z = torch.zeros(1, 2, 3, 8, 8)
    denoising = losses(images, 0 * images, none, z[:, :0])
    (both,) = torch.autograd.grad(
        losses(images, 0 * images, torch.arange(2), z), losses.parameters()
    )
    (alone,) = torch.autograd.grad(denoising, losses.parameters())
    per_value = 1 / 0.1**2 / (3 * 8 * 8)
    assert alone == 0
    assert both.item() == pytest.approx((0.0 - 0.9) * per_value)


def test_a_density_of_pixels_learns(classes, tmp_path):
    part = tiny("purifiers", "pixeldefend", image_size=32)
    weights = train(classes, tmp_path, part, crop=32, steps=60, learning_rate=0.03)
    card = (tmp_path / "net.md").read_text()
    assert weights.stat().st_size > 1000
    rows = [row for row in card.splitlines() if row.startswith(("| clean", "| with"))]
    bits = [float(row.split("|")[2]) for row in rows]
    assert len(bits) == 3
    assert bits[0] < 8  # which are those of a value of which nothing is known
    assert bits[2] < bits[1]  # purified is likelier than noisy


def test_what_no_trainer_trains_is_refused_in_a_line(folder, tmp_path):
    with pytest.raises(
        UserError, match=r"purifier net of kind osd is not trained; known are langevin, pixeldefend"
    ):
        train(folder, tmp_path, tiny("purifiers", "osd"))
    with pytest.raises(UserError, match=r"chains is 4, but must be the batch \(8\) or more"):
        validated(EnergyRecipe, {**RECIPE, "batch": 8, "chains": 4}, "recipe of x")


def test_a_classifier_learns_and_its_card_says_how_well(classes, tmp_path):
    changes = {"steps": 30, "batch": 16, "crop": 32, "learning_rate": 0.05, "optimiser": "sgd"}
    train(classes, tmp_path, WRN, **changes, ema=0)
    card = (tmp_path / "net.md").read_text()
    assert "40 training and 16 test images of 2 classes" in card
    assert "| clean | 16 | 100.00 % |" in card
    assert "| attacked | 16 |" in card
    assert (tmp_path / "net.png").stat().st_size > 1000


def test_adversarial_training_runs_and_names_its_adversary(classes, tmp_path):
    changes = {"steps": 2, "batch": 4, "crop": 32, "adversary": {"n_iter": 2}}
    train(classes, tmp_path, WRN, **changes)
    card = (tmp_path / "net.md").read_text()
    assert '"adversary":{"eps":"8/255","step_size":"2/255","n_iter":2}' in card
    assert "attacked by PGD-20 within 8/255, step 2/255:" in card
    with pytest.raises(UserError, match="adversary"):
        train(classes, tmp_path, WRN, **{**changes, "adversary": {"epsilon": 8}})


def test_a_classifier_is_trained_on_what_its_purifier_makes_of_images(classes, tmp_path):
    sees = {"kind": "me-net", "keep": 0.5, "keep_delta": 0.1}
    changes = {"steps": 3, "batch": 8, "crop": 32, "learning_rate": 0.05, "optimiser": "sgd"}
    plain = train(classes, tmp_path / "plain", WRN, **changes, ema=0)
    behind = train(classes, tmp_path / "behind", WRN, **changes, ema=0, behind=sees)
    assert behind.read_bytes() != plain.read_bytes()
    card = (tmp_path / "behind" / "net.md").read_text()
    assert "through the identity in place of what is before it" in card
    again = train(classes, tmp_path / "again", WRN, **changes, ema=0, behind=sees)
    assert again.read_bytes() == behind.read_bytes()
    with pytest.raises(UserError, match="did you mean 'me-net'"):
        train(classes, tmp_path / "x", WRN, **changes, behind={"kind": "menet"})
    with pytest.raises(UserError, match="behind has network, but must be a purifier that needs no"):
        train(classes, tmp_path / "x", WRN, **changes, behind={"kind": "osd", "network": "edm"})


def test_a_classifier_goes_on_from_the_weights_of_another(classes, tmp_path):
    changes = {"steps": 3, "batch": 8, "crop": 32, "learning_rate": 0.05, "optimiser": "sgd"}
    first = train(classes, tmp_path / "first", WRN, **changes, ema=0)
    (tmp_path / "next").mkdir()
    shutil.copy(first, tmp_path / "next" / "first.safetensors")
    on = train(classes, tmp_path / "next", WRN, **changes, ema=0, start="first")
    assert on.read_bytes() != first.read_bytes()
    with pytest.raises(UserError, match=r"absent\.safetensors"):
        train(classes, tmp_path / "next", WRN, **changes, start="absent")


def test_a_density_of_pixels_is_trained_at_its_own_size(classes, folder, tmp_path):
    part = tiny("purifiers", "pixeldefend", image_size=16)
    with pytest.raises(UserError, match="crop is 32, but must be the network's image_size, 16"):
        train(classes, tmp_path, part, crop=32)
    with pytest.raises(UserError, match="this PixelCNN takes 16x16 images"):
        train(classes, tmp_path, part, crop=16)  # of which those for measuring are not


@pytest.mark.parametrize(
    ("adversary", "says"),
    [
        (
            {"eps": 8, "step_size": 2},
            r"adversary\.step_size: must be a number .* 1, or a fraction such as .*, but is 2$",
        ),
        (
            {"eps": 8, "step_size": "2/255"},
            r"recipe of x: eps of Linf must lie in \(0, 1\], as 8/255",
        ),
        (
            {"eps": "8/255", "step_size": 1},
            "recipe of x: step_size is 1, but the ball is 0.0627451",
        ),
        ({"eps": 255}, r"recipe of x: adversary\.eps"),
    ],
)
def test_an_adversary_counts_in_the_unit_of_attacks(adversary, says):
    with pytest.raises(UserError, match=says):
        validated(ClassifierRecipe, {**RECIPE, "adversary": adversary}, "recipe of x")


def test_the_adversary_of_the_tracks_is_what_it_was(repository):
    """8 and 2 of 255, to the bit: the network in resources/ was trained with these."""
    adversary = load_config(repository / "config" / "config.yaml").training.recipe(
        "classifiers", "wrn-28-10-at"
    )["adversary"]
    found = Adversary(**adversary)
    assert (fraction(found.eps), fraction(found.step_size)) == (8.0 / 255, 2.0 / 255)
    assert found == Adversary()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 0}, "learning_rate"),
        ({"ema": 1.0}, "ema"),
        ({"ema": 99}, "ema"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"rounds": [{"gaussian": [0.01, 0.05]}]}, "gaussian"),  # out of 255
        ({"rounds": [{"jpeg": [0.5, 0.9]}]}, "jpeg"),
        ({"rounds": [{"grey": 40}]}, "grey"),
    ],
)
def test_a_recipe_in_other_units_is_refused(changes, says):
    with pytest.raises(UserError, match=says):
        validated(RestorerRecipe, {**RECIPE, **changes}, "recipe of x")


def test_the_training_attack_stays_in_the_ball_and_raises_the_loss():
    classifier = build_tiny("classifiers", "wide-resnet", num_classes=2)
    images, labels = torch.rand(8, 3, 32, 32), torch.randint(2, (8,))
    draw = torch.empty_like(images).uniform_(-1, 1)
    attacked_images = attacked(classifier, images, labels, Adversary(n_iter=5), draw)
    assert (attacked_images - images).abs().max() <= 8 / 255 + 1e-6
    assert attacked_images.min() >= 0
    assert attacked_images.max() <= 1
    start = (images + 8 / 255 * draw).clamp(0, 1)
    losses = [cross_entropy(classifier(x), labels).item() for x in (start, attacked_images)]
    assert losses[1] > losses[0]


def test_small_images_train_a_diffusion_network_as_they_are(classes, tmp_path):
    train(classes, tmp_path, tiny("networks", "edm", **EDM), crop=32)
    card = (tmp_path / "net.md").read_text()
    assert "40 images; 2 others held out" in card
    assert "| 150 |" in card


def test_adversarial_super_resolution_starts_from_the_weights_that_it_names(folder, tmp_path):
    (tmp_path / "net.safetensors").unlink(missing_ok=True)
    train(folder, tmp_path, ESRGAN)
    (tmp_path / "net.safetensors").rename(tmp_path / "first.safetensors")
    terms = {"features": FEATURES, "width": 4}
    changes = {"start": "first", "adversarial": terms, "learning_rate": 1e-6, "ema": 0.0}
    weights = train(folder, tmp_path, ESRGAN, **changes)
    first, then = (load_file(tmp_path / f"{n}.safetensors") for n in ("first", "net"))
    assert weights.name == "net.safetensors"
    assert any(not torch.equal(first[key], then[key]) for key in first)
    for key in first:  # a few tiny steps away from where it started
        torch.testing.assert_close(first[key].float(), then[key].float(), rtol=0.01, atol=1e-3)
    with pytest.raises(UserError, match="does not exist"):
        train(folder, tmp_path, ESRGAN, **{**changes, "start": "nowhere"})
    with pytest.raises(UserError, match="one scale and values in"):
        train(folder, tmp_path, EDSR, adversarial=terms)
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(UserError, match=r"net\.safetensors is not what it was"):
        train(folder, tmp_path, ESRGAN, **{**changes, "start": "net"})


def test_no_training_replaces_a_network_that_is_published(folder, tmp_path):
    """It would be refused by its sum, after all the work."""
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"published")
    (tmp_path / "SHA256SUMS").write_text(f"{sha256(weights)}  net.safetensors\n")
    with pytest.raises(UserError, match=r"is published by .*SHA256SUMS: name another folder"):
        train(folder, tmp_path)
    assert weights.read_bytes() == b"published"


def test_a_part_s_own_weights_are_not_where_its_training_starts(folder, tmp_path):
    fresh = train(folder, tmp_path / "fresh").read_bytes()
    own = Weights("mine.safetensors", tmp_path / "fresh" / "net.safetensors")
    again = train(folder, tmp_path / "again", replace(EDSR, weights=own))
    assert again.read_bytes() == fresh
    assert "weights" not in (tmp_path / "again" / "net.md").read_text()


def test_generator_and_discriminator_see_each_other_as_constants():
    network = build_tiny("restorers", "esrgan").network.requires_grad_(True)
    terms = {"features": FEATURES, "width": 4}
    low, high = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)

    def gradients(weight):
        gan = GAN(network, Adversarial(**terms, weight=weight, feature_weight=0.0))
        gan.eval()  # spectral normalisation then keeps its vectors
        gan.discriminator.load_state_dict(state)
        gan.zero_grad()
        gan(low, high).backward()
        return {name: p.grad.clone() for name, p in gan.named_parameters()}

    state = GAN(network, Adversarial(**terms)).discriminator.state_dict()
    without, much = gradients(0.0), gradients(10.0)
    same = {name: torch.equal(without[name], much[name]) for name in without}
    assert all(same[name] for name in same if name.startswith("discriminator."))
    assert not same["generator.conv_last.weight"]


@pytest.mark.usefixtures("hasty")
def test_the_state_of_another_recipe_or_code_is_not_resumed(
    folder, tmp_path, monkeypatch, steps_done, capsys
):
    fresh = train(folder, tmp_path / "fresh", learning_rate=1e-2)
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            train(folder, tmp_path / "other")
    steps_done.clear()
    assert train(folder, tmp_path / "other", learning_rate=1e-2).read_bytes() == fresh.read_bytes()
    assert steps_done == list(range(6))
    assert "net is trained from its first step" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        patch.setattr("puriflow.training.runs.code_hash", lambda *modules: "of before")
        with pytest.raises(Killed):
            train(folder, tmp_path / "older", learning_rate=1e-2)
    steps_done.clear()
    assert train(folder, tmp_path / "older", learning_rate=1e-2).read_bytes() == fresh.read_bytes()
    assert steps_done == list(range(6))


def test_training_lowers_the_loss(folder, tmp_path):
    losses = []
    for steps in (2, 60):
        train(folder, tmp_path / str(steps), steps=steps)
        log = (tmp_path / str(steps) / "net.jsonl").read_text()
        losses.append(json.loads(log.splitlines()[-1])["loss"])
    assert losses[1] < 0.8 * losses[0]


def test_every_step_sees_its_own_weights_in_bfloat16(folder, tmp_path):
    """Inside of another autocast torch would keep the first step's weights, cast, to the end."""
    wide = tiny("restorers", "edsr", n_feats=16)
    alone = train(folder, tmp_path / "alone", wide)
    with torch.autocast("cpu", enabled=False):
        inside = train(folder, tmp_path / "inside", wide)
    assert inside.read_bytes() == alone.read_bytes()


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        Photos(tmp_path / "nowhere", held_out=1)
    with pytest.raises(UserError, match="has 6 images, and 6"):
        Photos(folder, held_out=6)
    with pytest.raises(UserError, match="as large as a crop of 1000"):
        Photos(folder, held_out=1).crops(1, 1000, torch.Generator())
    with pytest.raises(UserError, match="train does not exist"):
        Labelled(folder)
    with pytest.raises(UserError, match="did you mean 'steps'"):
        train(folder, tmp_path, stepps=3)
    with pytest.raises(UserError, match="degradation: Input should be 'bicubic' or 'real'"):
        train(folder, tmp_path, degradation="reel")
    with pytest.raises(UserError, match="precision"):
        train(folder, tmp_path, precision="bf16")


def test_what_a_system_left_is_no_class_and_no_image(classes, folder, tmp_path):
    shutil.copytree(classes, tmp_path / "icons")
    shutil.copytree(folder, tmp_path / "photos")
    image = (folder / "0.png").read_bytes()
    places = [
        tmp_path / "photos",
        *(tmp_path / "icons").glob("*"),
        *(tmp_path / "icons").glob("*/*"),
    ]
    for place in places:
        for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX", "lost+found", "$RECYCLE.BIN"):
            (place / name).mkdir()
            (place / name / "0.png").write_bytes(image)
        for name in (".DS_Store", "Thumbs.db", "._0.png"):
            (place / name).write_text("no image")
    before, after = Labelled(classes), Labelled(tmp_path / "icons")
    assert after.classes == ["dark", "light"]
    assert after.fingerprint == before.fingerprint
    assert torch.equal(after.train[1], before.train[1])
    assert len(Photos(tmp_path / "photos", held_out=2).train) == 4


def test_classes_that_differ_are_named(classes, tmp_path):
    icons = shutil.copytree(classes, tmp_path / "icons")
    with pytest.raises(UserError, match=r"the classifier has 10 classes, but .* have 2"):
        train(icons, tmp_path, tiny("classifiers", "wide-resnet"), batch=4)
    (icons / "test" / "grey").mkdir()
    with pytest.raises(UserError, match="same classes, but only one of them has grey"):
        Labelled(icons)
    (icons / "train" / "grey").mkdir()
    with pytest.raises(UserError, match="train/grey has no image in it"):
        Labelled(icons)


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


def test_weights_that_cannot_be_written_leave_the_old_ones_alone(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_weights(torch.nn.Linear(2, 3), file)
    before = file.read_bytes()

    def killed(tensors, path, metadata):
        path.write_bytes(b"half of them")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save_weights(torch.nn.Linear(2, 3), file)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_weights_load_strictly_and_nothing_else_does(tmp_path):
    net, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    file = tmp_path / "w.safetensors"
    save_weights(net, file)
    load_weights(torch.nn.Linear(2, 3), file)
    with pytest.raises(UserError, match=r"w\.safetensors does not fit Linear"):
        load_weights(other, file)
    with pytest.raises(UserError, match="does not exist"):
        load_weights(net, tmp_path / "nowhere")
    file.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="is not a safetensors file"):
        load_weights(net, file)
