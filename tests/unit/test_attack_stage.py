"""Every attack on a whole defence, and every purifier, by the commands that rules call."""

import json

import numpy as np
import pytest
import torch
import yaml

from puriflow import registry
from puriflow.attacks.pgd import PGD
from puriflow.cli import app
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import ImageNoise
from puriflow.stages.attack import write_attack
from puriflow.stages.base import run
from puriflow.stages.evaluate import write_answers
from puriflow.stages.images import write_images
from puriflow.store import open_stage

EPS = 8 / 255
CPU = torch.device("cpu")
ATTACKS = {
    "pgd": {"step_size": 0.007, "n_iter": 2, "random_start": False, "eot_iter": 2},
    "bpda-eot": {"n_iter": 2, "eot_iter": 2, "n_draws": 2},
    "apgd": {"n_iter": 3, "eot_iter": 2},
    "square": {"n_queries": 4},
    "autoattack": {"n_iter": 2, "n_queries": 3, "n_target_classes": 2},
    "diffattack": {"n_iter": 2, "eot_iter": 1},
}
PURIFIERS = {
    "vpsde": {"t": 20, "step_size": 10},
    "ode": {"t": 20, "step_size": 10},
    "ddpm": {"t": 20, "respacing": 100},
    "ddim": {"stages": [[10, 2, 1], [20, 2, 1]]},
    "gdmp": {"t": 20, "respacing": 100, "rounds": 1},
    "vesde": {"t": 20, "step_size": 10},
    "ldsde": {"t": 20},
    "osd": {"t": 20},
    "scoreopt": {"n_iter": 2},
}


CLASSIFIER = {"kind": "wide-resnet", "depth": 10, "widen_factor": 1, "weights": None}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two images, which the classifier of random weights is right about."""
    folder = tmp_path_factory.mktemp("stores")
    source = write_images(
        folder / "source", "cifar10", {"kind": "foolbox", "sample": "cifar10"}, subset=2
    )
    torch.manual_seed(0)
    classifier = registry.build("classifiers", "c", CLASSIFIER)
    with torch.no_grad():
        answers = classifier(torch.from_numpy(source.read("images"))).argmax(1).numpy()
    return run(
        folder / "images",
        "images",
        labels=answers,
        indices=source.read("index"),
        made_by={"stage": "images"},
        compute=lambda start, stop: {"images": source.read("images", start, stop)},
        batch=2,
    )


@pytest.fixture(scope="module")
def specs(tiny_adm):
    """A defence of random weights."""
    return {
        "restorer": {"kind": "bicubic", "scale": 2},
        "purifier": {"kind": "vpsde", "t": 20, "step_size": 10, "network": tiny_adm},
        "classifier": CLASSIFIER,
    }


@pytest.fixture(autouse=True)
def seeded(monkeypatch):
    """Networks without a weights file are random: the same ones each time that they are built."""
    build = registry.build
    monkeypatch.setattr(parts, "build", lambda *a: (torch.manual_seed(0), build(*a))[1])


def attack(images, out, specs, kind, *, kept_every=60.0, **options):
    spec = {"kind": kind, "eps": "8/255", **ATTACKS[kind], **options}
    victim = ("bicubic-x2.vpsde.wrn", specs)
    return write_attack(images, out, kind, spec, *victim, seed=0, device=CPU, kept_every=kept_every)


def test_every_kind_is_tried_here_and_has_an_entry_in_both_tracks(repository):
    assert set(ATTACKS) == set(registry.kinds("attacks"))
    assert set(PURIFIERS) == set(registry.kinds("purifiers"))
    for track in ("config.yaml", "paper.yaml"):
        config = yaml.safe_load((repository / "config" / track).read_text())
        for family, tried in (("attacks", ATTACKS), ("purifiers", PURIFIERS)):
            kinds = {entry.get("kind") for entry in config[family].values()}
            assert kinds >= set(tried) - {"apgd"}, track  # apgd is what autoattack is made of


def puriflow(*arguments):
    """The command, in this process."""
    app([*map(str, arguments), "--threads", "1"], standalone_mode=False)


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_on_a_defence(images, specs, tmp_path, kind):
    spec, out = {"kind": kind, "eps": "8/255", **ATTACKS[kind]}, tmp_path / "attack"
    victim = ("--victim", "bicubic-x2.vpsde.wrn", "--victim-spec", json.dumps(specs))
    attack = ("--attack", kind, "--spec", json.dumps(spec))
    puriflow("attack", images.folder, "--out", out, *attack, *victim)
    found = open_stage(out)
    clean, adversarial = images.read("images"), found.read("images")
    assert 0 < np.abs(adversarial - clean).max() <= EPS + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert np.isfinite(found.read("loss")).all()
    assert found.read("success").dtype == bool
    assert (found.read("queries") >= 1).all()
    recorded = found.manifest["parameters"]
    assert recorded["victim"]["classifier"].items() >= specs["classifier"].items()
    assert recorded["victim"]["purifier"]["t_delta"] == 0  # a default
    assert recorded["attack"]["eps"] == "8/255"


@pytest.mark.parametrize("version", ["rand", "standard"])
def test_both_versions_of_autoattack(images, specs, tmp_path, version):
    options = {"version": version, "eot_iter": 1}
    found = attack(images, tmp_path / "attack", specs, "autoattack", **options)
    assert found.read("success").shape == (2,)


def test_bpda_may_go_through_the_restorer(images, specs, tmp_path):
    there, around = (
        attack(images, tmp_path / g, specs, "bpda-eot", gradient=g).read("images")
        for g in ("restorer", "identity")
    )
    assert not np.array_equal(there, around)


def test_an_unrecorded_default_is_recorded(images, specs, tmp_path):
    found = attack(images, tmp_path / "attack", specs, "pgd")
    assert found.manifest["parameters"]["attack"]["gradient"] == "full"


@pytest.mark.parametrize("gradient", ["full", "restorer", "identity", "blind"])
def test_what_an_attack_differentiates_is_in_the_manifest(images, specs, tmp_path, gradient):
    found = attack(images, tmp_path / "attack", specs, "pgd", gradient=gradient)
    assert found.manifest["parameters"]["attack"]["gradient"] == gradient


@pytest.mark.parametrize("kind", PURIFIERS)
def test_a_purifier(images, tiny_adm, tmp_path, kind):
    spec = {"kind": kind, **PURIFIERS[kind], "network": tiny_adm}
    out, purifier = tmp_path / "p", ("--purifier", kind, "--spec", json.dumps(spec))
    puriflow("purify", images.folder, "--out", out, *purifier)
    purified = open_stage(out)
    change = np.abs(purified.read("images") - images.read("images"))
    assert 0 < change.mean() < 0.5


class Killed(Exception):
    pass


def test_a_killed_attack_goes_on_inside_an_image(images, specs, tmp_path, monkeypatch):
    whole = attack(images, tmp_path / "whole", specs, "pgd", n_iter=4)
    step, done = PGD.step, []

    def counted(self, batch, state, number):
        if len(done) == 6:  # in the middle of the second image
            done.append(None)
            raise Killed
        done.append(number)
        return step(self, batch, state, number)

    monkeypatch.setattr(PGD, "step", counted)
    with pytest.raises(Killed):
        attack(images, tmp_path / "killed", specs, "pgd", kept_every=0, n_iter=4)
    again = attack(images, tmp_path / "killed", specs, "pgd", kept_every=0, n_iter=4)
    assert done == [0, 1, 2, 3, 0, 1, None, 2, 3]
    for array in ("images", "success", "loss", "queries"):
        np.testing.assert_array_equal(again.read(array), whole.read(array))


def test_the_progress_of_another_attack_is_not_gone_on_from(images, specs, tmp_path, monkeypatch):
    monkeypatch.setattr(PGD, "mean_gradient", stop := failing(PGD.mean_gradient, 3))
    with pytest.raises(Killed):
        attack(images, tmp_path / "a", specs, "pgd", kept_every=0, n_iter=4)
    assert (tmp_path / ".a.work" / "under-way.pt").is_file()
    stop.after = 10**9
    other = attack(images, tmp_path / "a", specs, "pgd", n_iter=4, step_size="1/255")
    fresh = attack(images, tmp_path / "b", specs, "pgd", n_iter=4, step_size="1/255")
    np.testing.assert_array_equal(other.read("images"), fresh.read("images"))


def failing(function, after):
    def counted(*arguments):
        counted.calls += 1
        if counted.calls > counted.after:
            raise Killed
        return function(*arguments)

    counted.calls, counted.after = 0, after
    return counted


def test_an_attack_that_leaves_its_ball_is_refused(images, specs, tmp_path, monkeypatch):
    monkeypatch.setattr("puriflow.attacks.ball.Ball.project", lambda _, x, clean: x.clamp(0, 1))
    with pytest.raises(UserError, match=r"pgd: distance \d\.\d+ exceeds eps 0\.0313"):
        attack(images, tmp_path / "a", specs, "pgd", step_size=0.5)


def test_an_attack_that_knows_the_seed_sees_the_purifier_s_draw(images, specs, tmp_path):
    """Its one gradient is that of the defence with the noise of the purify stage."""
    found = attack(images, tmp_path / "a", specs, "pgd", n_iter=1, eot_iter=1, fixed=True)
    roles = {"restorer": "r", "purifier": "p", "classifier": "c"}
    defence = Defence.from_specs(roles, specs, seed=0).eval().requires_grad_(False)
    for i, index in enumerate(images.read("index").tolist()):
        x = torch.from_numpy(images.read("images", i, i + 1)).requires_grad_()
        label = torch.from_numpy(images.read("label", i, i + 1))
        purified = defence.purified(x, ImageNoise(0, "purify", [index]))
        loss = torch.nn.functional.cross_entropy(defence.classifier(purified), label)
        (gradient,) = torch.autograd.grad(loss, x)
        expected = (x + 0.007 * gradient.sign()).clamp(0, 1).detach().numpy()
        np.testing.assert_allclose(found.read("images", i, i + 1), expected, atol=1e-7)


def test_several_answers_of_a_defence(images, specs, tmp_path):
    chosen = {role: specs[role] for role in ("purifier", "classifier")}
    roles = {"purifier": "p", "classifier": "c"}
    answers = write_answers(
        images, tmp_path / "e", roles, chosen, draws=3, seed=0, device=CPU
    ).read("answers")
    assert answers.shape[:2] == (2, 3)
    defence = Defence.from_specs(
        {"restorer": "none", **roles}, {"restorer": None, **chosen}, seed=0
    )
    for i, index in enumerate(images.read("index").tolist()):
        x = torch.from_numpy(images.read("images", i, i + 1))
        for draw in range(3):
            with torch.no_grad():
                logits = defence(x, [index], draw).numpy()
            np.testing.assert_array_equal(answers[i, draw], logits[0])


def test_the_manifest_is_json_of_the_whole_chain(images, specs, tmp_path):
    found = attack(images, tmp_path / "a", specs, "pgd")
    assert json.loads((found.folder / "manifest.json").read_text())["stage"] == "attack"
