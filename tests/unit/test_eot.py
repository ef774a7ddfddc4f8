"""How many draws a gradient needs: the measure, its draws, the file of it, and what tables say."""

from contextlib import closing

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from puriflow.attacks import pgd
from puriflow.attacks.base import Batch
from puriflow.config import check_config, load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.metrics.eot import Needed, continued, curve, needed, split_halves
from puriflow.randomness import AttackNoise
from puriflow.results import load_result
from puriflow.results.drawn import Measurement, answers, gradients
from puriflow.results.figures.sources import Sources as EveryImage
from puriflow.results.rows import Threat, few_draws
from puriflow.results.sweep import Sweep
from puriflow.store.work import Work
from puriflow.yaml_files import read_yaml

EOT = {
    "title": "t",
    "source": "s",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": "pgd-eot-linf8",
    "count": 2,
    "rows": [{"method": "VP-SDE", "purifier": "vpsde-t100"}],
}
INDICES = [4, 9]


class Scaled(nn.Module):
    """A purifier that multiplies every pixel by 1 + spread z, z standard normal."""

    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, x, noise):
        return x * (1 + self.spread * noise.normal_like(x))


class Sum(nn.Module):
    """A classifier of two classes whose logits are 0 and the sum of all pixels."""

    def forward(self, x):
        total = x.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total], dim=1)


def batch(spread, side=16):
    """Black images: each draw of the gradient is -0.5 (1 + spread z), 1 / (1 + spread^2) signal."""
    images = torch.zeros(2, 3, side, side)
    victim = Defence(None, Scaled(spread), Sum())
    return Batch(victim, images, torch.ones(2, dtype=torch.int64), AttackNoise(0, INDICES))


# The measure


def test_the_curve_of_a_known_signal_in_known_noise():
    """Spread 3: one draw is a tenth signal, so that 9 reach 0.5 and 81 reach 0.9."""
    b = batch(3)
    cosines = split_halves(gradients(b, b.images, "word", 64))
    draws = 2.0 ** np.arange(6)
    expected = draws * 0.1 / (1 + (draws - 1) * 0.1)
    np.testing.assert_allclose(cosines.mean(axis=0), expected, atol=0.05)
    measured = curve(cosines)
    assert list(measured) == [1, 2, 4, 8, 16, 32]
    whole = {**measured, **continued(measured, 4)}
    assert whole[128][0] == pytest.approx(128 * 0.1 / (1 + 127 * 0.1), abs=0.02)
    assert needed(whole, 0.5).draws == 16
    assert needed(whole, 0.9).draws == 128
    assert needed(measured, 0.9).words(32) == "more than 32"


def test_of_a_deterministic_victim_one_draw_is_enough():
    b = batch(0)
    cosines = split_halves(gradients(b, b.images, "word", 8))
    np.testing.assert_allclose(cosines, 1)
    assert needed(curve(cosines), 0.9) == Needed(1, 1, 1)


def test_every_draw_counts_at_every_number_and_the_last_pair_is_of_halves():
    draws = np.random.default_rng(0).normal(1, 2, (8, 3, 5))

    def cosine(a, b):
        return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)

    singles = np.mean([cosine(draws[i], draws[i + 1]) for i in (0, 2, 4, 6)], axis=0)
    pairs = draws.reshape(4, 2, 3, 5).mean(axis=1)
    twos = np.mean([cosine(pairs[i], pairs[i + 1]) for i in (0, 2)], axis=0)
    halves = cosine(draws[:4].mean(axis=0), draws[4:].mean(axis=0))
    found = split_halves(iter(draws.reshape(8, 3, 5, 1)))
    np.testing.assert_allclose(found, np.stack([singles, twos, halves], axis=1))


def test_a_gradient_of_zeros_points_nowhere():
    np.testing.assert_array_equal(split_halves([np.zeros((1, 4)), np.ones((1, 4))]), [[0]])


@pytest.mark.parametrize("draws", [0, 1, 3, 6])
def test_draws_are_two_halves_of_a_power_of_two(draws):
    with pytest.raises(ValueError, match="two halves of a power of two"):
        split_halves(np.ones((draws, 1, 4)))


def test_the_law_goes_on_from_the_last_measured_number():
    law = continued({1: (0.4, 0.3, 0.5), 2: (0.5, -0.2, 1.0)}, 4)
    assert law == {
        4: pytest.approx((2 / 3, 0, 1)),
        8: pytest.approx((0.8, 0, 1)),
    }


def test_what_is_recommended_has_the_interval_of_the_curve():
    line = {1: (0.1, 0.0, 0.3), 2: (0.3, 0.1, 0.5), 4: (0.6, 0.3, 0.8), 8: (0.7, 0.4, 0.9)}
    assert needed(line, 0.5) == Needed(4, 2, None)
    assert needed(line, 0.5).words(8) == "4 (2 to more than 8)"
    assert needed(line, 0.95).words(8) == "more than 8"


# Draws


def test_their_mean_is_the_gradient_that_an_attack_averages():
    b = batch(3, side=32)  # a fold has eight draws of two such images, and then two
    attack = pgd.build(eps="8/255", step_size="2/255", n_iter=1, random_start=False, eot_iter=10)
    x = b.images + 0.001
    mean = np.mean(list(gradients(b, x, "0", 10)), axis=0)
    np.testing.assert_allclose(mean, attack.mean_gradient(b, x, 0).numpy(), rtol=1e-4, atol=1e-7)


def test_a_gradient_that_is_no_number_is_refused():
    b = batch(float("inf"))
    b.victim.classify = lambda purified: torch.nan_to_num(purified).flatten(1)[:, :2]
    with pytest.raises(UserError, match="gradients have NaN or infinity"):
        list(gradients(b, b.images + 1, "word", 2))


def test_answers_are_those_that_judge_a_defence():
    b = batch(3)
    found = answers(b, b.images + 0.01, 3)
    for draw in range(3):
        theirs = b.victim(b.images + 0.01, INDICES, draw)
        np.testing.assert_allclose(found[:, draw], theirs.numpy(), rtol=1e-5, atol=1e-6)


class Sources:
    """Three black images."""

    device = torch.device("cpu")
    clean = np.zeros((3, 3, 4, 4), dtype=np.float32)
    labels, indices = np.ones(3, dtype=np.int64), np.arange(7, 10)


def test_a_killed_job_goes_on_after_the_images_that_it_has_finished(tmp_path, monkeypatch):
    attack = pgd.build(eps="8/255", step_size="2/255", n_iter=1, random_start=False)
    how = Measurement({1: attack}, own=1, draws=2, n_draws=2)
    chains = [lambda s=spread: Defence(None, Scaled(s), Sum()) for spread in (0, 3)]
    seen = []

    def measured(fails_at=None):
        def of(self, batch):
            if len(seen) == fails_at:
                raise KeyboardInterrupt
            seen.append((batch.victim.purifier.spread, batch.noise.indices))
            return whole(self, batch)

        with closing(Work(tmp_path / "all", {})) as work, monkeypatch.context() as patch:
            patch.setattr(Measurement, "of", of)
            found = how.of_all(chains, Sources(), work)
            work.discard()
        return found

    whole = Measurement.of
    expected, seen[:] = measured(), []
    with pytest.raises(KeyboardInterrupt):
        measured(fails_at=4)
    found = measured()
    assert seen == [(s, [i]) for s in (0, 3) for i in (7, 8, 9)]
    for ours, theirs in zip(found, expected, strict=True):
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array)
    np.testing.assert_allclose(found[0]["cosines"], 1)
    assert found[1]["cosines"].shape == (3, 2, 2)
    assert found[1]["answers"].shape == (3, 2, 2, 2)
    assert list(tmp_path.iterdir()) == []


# The file


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


def read(tmp_path, **changes):
    file = tmp_path / "eot" / "t.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({**EOT, **changes}))
    return load_result(file)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"draws": 0}, "draws: Input should be greater than or equal to 1"),
        ({"draws": 48}, "draws: .*must be a power of two, as 32, but is 48"),
        ({"eot_iter": [0, 4]}, r"eot_iter\.0: Input should be greater than or equal to 1"),
        ({"eot_iter": [1, 16, 4]}, "eot_iter: .*must ascend, as 1, 4, 16, but is 1, 16, 4"),
        ({"eot_iter": [4, 4]}, "eot_iter: .*must ascend"),
        ({"count": 1}, "count: Input should be greater than or equal to 2"),
        ({"attack": "pgd-eot-linf8-identity"}, "gradient is identity, but draws are counted of"),
        ({"attack": "pgd-eot-linf8-fixed"}, "is `fixed`: its draws are all the same one"),
        ({"attack": "square-linf8"}, "square-linf8 has no eot_iter"),
        ({"attack": "pgd-eot-linf9"}, "did you mean 'pgd-eot-linf8'"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(track, tmp_path, said, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, **said).stores(track)
    assert "\n" not in str(caught.value)


def test_one_image_has_no_interval(track, tmp_path, monkeypatch):
    monkeypatch.setattr(EveryImage, "clean", np.zeros((1, 3, 8, 8)))
    with pytest.raises(UserError, match="data set cifar10 has 1 image; draws are counted of 2"):
        read(tmp_path).measure(track, tmp_path, torch.device("cpu"), None)


def test_a_row_has_a_curve_at_both_points_what_it_asks_for_and_what_an_attack_gains(
    repository, tmp_path
):
    raw = read_yaml(repository / "config" / "config.yaml", "config")
    raw["purifiers"]["vpsde-t100"]["recommended_eot_iter"] = 4
    changed, eot = check_config(raw), read(tmp_path, draws=4, eot_iter=[8])
    cosines = np.array([[[0.3, 0.6, 0.8], [0.1, 0.1, 0.2]], [[0.5, 0.6, 0.8], [0.1, 0.1, 0.2]]])
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    logits = np.array([[[right] * 4, [right] * 3 + [wrong], [wrong] * 4]] * 2)
    arrays = {"cosines": cosines, "answers": logits, "label": np.zeros(2, dtype=int)}
    lines = list(eot.lines(changed, eot.rows[0], {eot.rows[0]: arrays}))
    by = {(line["metric"], line["images"], line.get("draws")): line for line in lines}
    assert by["split_half_cosine", "clean", 1]["value"] == 0.4
    assert by["expected_cosine", "attacked", 16]["value"] == 0.5
    assert {draws for metric, _, draws in by if metric == "expected_cosine"} == {8, 16}
    assert by["draws_for_0.5", "clean", None]["recommended"] == "2 (1 to 2)"
    attacked = by["draws_for_0.5", "attacked", None]
    assert (attacked["value"], attacked["recommended"]) == (16, "16")
    assert "attack pgd-eot-linf8 takes 4, which are fewer" in attacked["note"]
    assert "the track recommends 4, which are fewer" in attacked["note"]
    assert "fewer" not in by["draws_for_0.5", "clean", None]["note"]
    assert by["draws_for_0.9", "attacked", None]["recommended"] == "more than 16"
    assert by["success_average", "clean", None]["value"] == 0
    assert by["success_average", "attacked", 4]["value"] == 25
    assert by["success_majority", "attacked", 4]["value"] == 0
    assert by["success_majority", "attacked", 8]["value"] == 100


# What tables say


def test_tables_say_which_attacks_average_fewer_draws_than_the_track_recommends(repository):
    raw = read_yaml(repository / "config" / "config.yaml", "config")
    raw["purifiers"]["vpsde-t100"]["recommended_eot_iter"] = 8
    track = check_config(raw)

    def few(attack, purifier="vpsde-t100", **through):
        return few_draws(
            track, [Threat(attack=attack, **{"victim": "defence", **through})], purifier
        )

    said = ["pgd-eot-linf8 averages 4 draws, and 8 are recommended"]
    assert few("pgd-eot-linf8") == few("pgd-eot-linf8", "none", surrogate="vpsde-t100") == said
    for attack in ("pgd-eot-linf8-strong", "pgd-eot-linf8-fixed", "pgd-eot-linf8-identity"):
        assert few(attack) == []
    assert (
        few("square-linf8") == few("pgd-eot-linf8", "none") == few("pgd-eot-linf8", "ldsde") == []
    )
    assert few("pgd-eot-linf8", victim="classifier") == []


def test_a_table_and_a_sweep_have_it_in_their_notes_and_are_built_anew(repository, monkeypatch):
    raw = read_yaml(repository / "config" / "config.yaml", "config")
    del raw["purifiers"]["vpsde-t100"]["recommended_eot_iter"]
    track = check_config(raw)
    raw["purifiers"]["vpsde-t100"]["recommended_eot_iter"] = 8
    changed, said = check_config(raw), "pgd-eot-linf8 averages 4 draws, and 8 are recommended"
    table = load_result(repository / "config" / "tables" / "draws.yaml")
    monkeypatch.setattr(type(table), "numbers", lambda *_: {})
    row = table.rows[0]
    assert said in table.cells(changed, row, None)["note"]
    assert "recommended" not in table.cells(track, row, None)["note"]
    assert table.trigger(changed) != table.trigger(track)

    adaptive = {"attack": "pgd-eot-linf8", "victim": "defence"}
    chains = {**EOT, "attack": adaptive, "purifier": "vpsde-t100", "along": "purifier"}
    sweep = Sweep.load({key: v for key, v in chains.items() if key not in ("count", "rows")}, "t")
    monkeypatch.setattr("puriflow.results.sweep.values_of", lambda *_: {})
    monkeypatch.setattr("puriflow.results.sweep.numbers_of", lambda *_: [{"metric": "robust"}])
    (line,) = sweep.lines(changed, None)
    assert said in line["note"]
