from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest

from puriflow.chain import Chain, victim_name, victim_roles
from puriflow.config import Evaluation, load_config
from puriflow.errors import UserError
from puriflow.metrics.accuracy import judged, wilson
from puriflow.results.measures import Measures, _costs, _fill
from puriflow.results.table import Table, chains, load_table, needed, served, unavailable

# Three images, four draws, labels 0: always right, right in the first two draws only, never.
ANSWERS = np.array([[0, 0, 0, 0], [0, 0, 1, 2], [1, 2, 0, 1]])
LABELS = np.zeros(3, dtype=int)
TABLE = {
    "title": "t",
    "source": "s",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": {"attack": "pgd-eot-linf8", "victim": "defence"},
    "rows": [{"method": "m", "type": "t", "restorer": "mdsr-x2", "purifier": "vpsde-t100"}],
}


@pytest.fixture(scope="module")
def config(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("first", [1, 1, 0]),
        ("average", [1, 0.5, 0.25]),
        ("worst", [1, 0, 0]),
        ("majority", [1, 1, 0]),
        ("mean-logits", [1, 1, 0]),
        ("others", [1, 1 / 3, 1 / 3]),
    ],
)
def test_rules(rule, expected):
    logits = np.eye(3)[ANSWERS]
    np.testing.assert_allclose(judged(logits, LABELS, rule), expected)


def test_the_vote_and_the_mean_of_logits_differ():
    logits = np.array([[[1.0, 0.9], [1.0, 0.9], [0.0, 5.0]]])
    assert judged(logits, np.array([0]), "majority") == [1]
    assert judged(logits, np.array([0]), "mean-logits") == [0]


@pytest.mark.parametrize(("hits", "count"), [(0, 20), (7, 20), (20, 20), (450, 1000)])
def test_wilson(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high))


def test_wilson_of_a_mean_lies_between_its_neighbours():
    assert wilson(7, 20) < wilson(7.5, 20) < wilson(8, 20)


def test_a_victim_is_a_classifier_or_a_defence():
    assert victim_name("none", "none", "c") == "c"
    assert victim_name("r", "none", "c") == "r.none.c"
    assert victim_roles("r.p.c") == {"restorer": "r", "purifier": "p", "classifier": "c"}
    assert victim_roles("c") == {"restorer": "none", "purifier": "none", "classifier": "c"}
    with pytest.raises(UserError, match=r"restorer\.purifier\.classifier"):
        victim_roles("r.c")


def test_the_path_of_an_adaptive_attack_holds_its_victim():
    table = Table.model_validate(TABLE)
    (chain,) = table.attacked(table.rows[0], draws=1)
    assert chain.folder("attack", "0-of-1") == (
        "attack/cifar10/pgd-eot-linf8/mdsr-x2.vpsde-t100.wrn-28-10/0-of-1"
    )


def test_a_surrogate_stands_in_for_the_purifier_in_the_attack_only():
    table = Table.model_validate(
        TABLE | {"attack": {"attack": "a", "victim": "defence", "surrogate": "osd-t73"}}
    )
    (chain,) = table.attacked(table.rows[0], draws=1)
    assert chain.victim == "mdsr-x2.osd-t73.wrn-28-10"
    assert chain.purifier == "vpsde-t100"


def test_several_draws_take_the_place_of_two_stages():
    chain = Chain("d", restorer="r", purifier="p", classifier="c", draws=10)
    assert list(chain.stages()) == ["images", "restore", "evaluate"]
    assert chain.folder("evaluate", "0-of-1") == "evaluate/d/none/none/r/p/c/10/0-of-1"
    assert chain.before("evaluate") == "restore"


def test_without_a_random_purifier_one_draw_is_enough(config):
    rows = [{"method": "m", "type": "t", "restorer": "mdsr-x2"}]
    table = Table.model_validate(TABLE | {"rows": rows, "evaluation": "robust-eval"})
    assert not any("evaluate" in f for f in needed(table, served(table, config)))


@pytest.mark.parametrize(("minimum", "expected"), [("image", 25.0), ("attack", 50.0)])
def test_of_several_attacks_the_worst_counts(config, minimum, expected):
    rights = [np.array([1.0, 0, 1, 0]), np.array([1.0, 1, 0, 0])]
    measures = [Measures({"first": right}, 1.0, None, None) for right in rights]
    table = Table.model_validate(TABLE | {"attack": ["pgd-linf8", "pgd-linf4"]})
    roles = served(table, config)
    roles["evaluation single"] = Evaluation(minimum=minimum).model_dump()
    out = {}
    _fill(out, table, table.rows[0], roles, measures[0], measures)
    assert (out["standard"], out["robust"], out["n"]) == (50.0, expected, 4)


def test_what_is_wrong_without_an_attack_is_not_robust_to_several(config):
    table = Table.model_validate(TABLE | {"attack": ["pgd-linf8", "pgd-linf4"]})
    clean, attacked = Measures({"first": np.zeros(2)}, 1, None, None), np.ones(2)
    out = {}
    measures = [Measures({"first": attacked}, 1, None, None)] * 2
    _fill(out, table, table.rows[0], served(table, config), clean, measures)
    assert (out["standard"], out["robust"]) == (0, 0)


@pytest.mark.parametrize(
    "attack",
    ["pgd-linf8", {"attack": "pgd-eot-linf8", "victim": "defence", "surrogate": "osd-t73"}],
)
def test_an_attack_s_verdict_on_another_victim_is_not_taken(config, attack):
    table = Table.model_validate(TABLE | {"attack": attack, "evaluation": "auto-attack"})
    with pytest.raises(UserError, match="not about this defence"):
        served(table, config)


def test_by_an_attack_s_verdict_only_clean_images_are_asked_often(config):
    table = Table.model_validate(TABLE | {"evaluation": "auto-attack"})
    clean, (attacked,) = chains(table, table.rows[0], served(table, config))
    assert (clean.draws, attacked.draws) == (10, 1)


def test_a_tie_is_no_majority():
    logits = np.eye(3)[np.array([[0, 0, 1, 1]])]
    assert judged(logits, np.array([0]), "majority") == [0]
    assert judged(logits, np.array([1]), "majority") == [0]


def test_the_attack_s_own_verdict_counts_for_attacked_images_only(config):
    table = Table.model_validate(TABLE | {"evaluation": "auto-attack"})
    clean = Measures({"first": np.array([1.0, 1, 1, 0])}, 1.0, None, None)
    right = {"first": np.array([1.0, 1, 0, 0]), "attack": np.array([1.0, 0, 0, 0])}
    out = {}
    _fill(out, table, table.rows[0], served(table, config), clean, [Measures(right, 1, None, None)])
    assert (out["standard"], out["robust"]) == (75.0, 25.0)


def test_every_table_names_what_both_tracks_know(repository):
    for track in ("config.yaml", "paper.yaml"):
        config = load_config(repository / "config" / track)
        for file in sorted((repository / "config" / "tables").glob("*.yaml")):
            table = load_table(file)
            roles = served(table, config)
            rows = [row for row in table.run() if unavailable(table, row, roles) is None]
            assert rows, f"{file.name} on {track}"
            assert needed(table, roles)


def test_the_costs_of_table_10_are_the_paper_s(repository):
    """Which also says that the paper counts multiply-accumulates, at 224 pixels."""
    table = load_table(repository / "config" / "tables" / "table10.yaml")
    roles = served(table, load_config(repository / "config" / "paper.yaml"))
    images = SimpleNamespace(read=lambda *_: np.zeros((1, 3, 224, 224), np.float32))
    for row in table.rows:
        found = _costs(table, row, roles, images)
        assert found["macs_g"] == pytest.approx(row.paper.macs_g, rel=0.005)
        assert found["params_m"] == pytest.approx(row.paper.params_m, rel=0.005)


def test_without_a_network_or_without_costs_nothing_is_counted(config):
    rows = [{"method": "a", "type": "t", "restorer": "wavelet"}, {"method": "b", "type": "t"}]
    table = Table.model_validate(TABLE | {"rows": rows, "costs": True})
    roles = served(table, config)
    assert [_costs(table, row, roles, None) for row in table.rows] == [{}, {}]
    assert not any("spec" in role for role in served(Table.model_validate(TABLE), config).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": []}, "attack"),
        ({"attack": {"attack": "a", "victim": "all"}}, "classifier"),
        ({"evaluation": "robust-evall"}, "did you mean 'robust-eval'"),
        ({"attack": "pgd-linf5"}, "did you mean 'pgd-linf"),
    ],
)
def test_mistakes_in_a_table(config, tmp_path, change, message):
    import yaml

    (tmp_path / "t.yaml").write_text(yaml.safe_dump(TABLE | change))
    with pytest.raises(UserError, match=message):
        served(load_table(tmp_path / "t.yaml"), config)
