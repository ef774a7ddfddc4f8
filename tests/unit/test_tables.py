import re
from typing import get_args

import numpy as np
import pytest
import yaml
from scipy.stats import binomtest

from puriflow.chain import Chain, victim_name, victim_roles
from puriflow.config import Evaluation, check_config, load_config
from puriflow.diffusion.schedule import space_timesteps
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR
from puriflow.errors import UserError
from puriflow.metrics.accuracy import judged, judged_in_loop, wilson
from puriflow.metrics.rules import OfAnswers
from puriflow.results import load_result
from puriflow.results.ceiling import to_ceiling
from puriflow.results.columns import read_csv, write_csv
from puriflow.results.costs import cost_of_purifier, cost_of_restorer
from puriflow.results.measures import Measures, outcomes
from puriflow.results.table import Table
from puriflow.yaml_files import read_yaml

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


def test_wilson_s_interval_holds_its_share_to_the_last_bit():
    for count in range(1, 300):
        assert wilson(0, count)[0] == 0
        assert wilson(count, count)[1] == 1


def test_wilson_of_a_mean_lies_between_its_neighbours():
    assert wilson(7, 20) < wilson(7.5, 20) < wilson(8, 20)


def test_a_victim_is_a_classifier_or_a_defence():
    assert victim_name("none", "none", "c") == "c"
    assert victim_name("r", "none", "c") == "r.none.c"
    assert victim_roles("r.p.c") == {"restorer": "r", "purifier": "p", "classifier": "c"}
    assert victim_roles("c") == {"restorer": "none", "purifier": "none", "classifier": "c"}
    with pytest.raises(UserError, match=r"restorer\.purifier\.classifier"):
        victim_roles("r.c")


def test_the_path_of_an_adaptive_attack_holds_its_victim(config):
    table = Table.model_validate(TABLE)
    _, (chain,) = table.chains(config, table.rows[0])
    assert chain.folder("attack", "0-of-1") == (
        "attack/cifar10/pgd-eot-linf8/mdsr-x2.vpsde-t100.wrn-28-10/0-of-1"
    )


def test_a_surrogate_stands_in_for_the_purifier_in_the_attack_only(config):
    table = Table.model_validate(
        TABLE | {"attack": {"attack": "a", "victim": "defence", "surrogate": "osd-t73"}}
    )
    _, (chain,) = table.chains(config, table.rows[0])
    assert chain.victim == "mdsr-x2.osd-t73.wrn-28-10"
    assert chain.purifier == "vpsde-t100"


def test_several_draws_take_the_place_of_two_stages():
    chain = Chain("d", restorer="r", purifier="p", classifier="c", n_draws=10)
    assert list(chain.stages()) == ["images", "restore", "evaluate"]
    assert chain.folder("evaluate", "0-of-1") == "evaluate/d/none/none/r/p/c/10/0-of-1"
    assert chain.before("evaluate") == "restore"


def test_without_a_random_purifier_one_draw_is_enough(config):
    rows = [{"method": "m", "type": "t", "restorer": "mdsr-x2"}]
    table = Table.model_validate(TABLE | {"rows": rows, "evaluation": "robust-eval"})
    assert not any("evaluate" in folder for folder in table.stores(config))


def percent(rights, evaluation, clean=None):
    """Standard and robust accuracy of images that attacks leave right."""
    measures = [Measures(right, {}, None) for right in rights]
    clean = measures[0] if clean is None else Measures(clean, {}, None)
    return {name: 100 * x.mean() for name, x in outcomes(evaluation, clean, measures).items()}


# Three images, an evaluation of the clean one and two more, of four draws.
WRONG = np.array([[0, 0, 0.25], [0, 1, 0], [0.5, 0.25, 0]])
VOTED = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("in-loop-average", [0.75, 0, 0.5]),
        ("in-loop-majority", [1, 0, 1]),
        ("in-loop-worst", [0, 0, 0]),
    ],
)
def test_in_the_loop_the_worst_step_counts_and_the_control_is_the_standard_accuracy(rule, expected):
    right = judged_in_loop(WRONG, VOTED)
    assert right[rule].tolist() == expected
    control = judged_in_loop(np.zeros((3, 3)), np.zeros((3, 3), dtype=bool))
    right |= {f"{key}-on-clean": value for key, value in control.items()}
    answers = {"first": np.zeros(3), "average": np.zeros(3)}
    found = percent([right | answers], Evaluation(rule=rule), clean=answers)
    assert found == {"standard": 100.0, "robust": pytest.approx(100 * np.mean(expected))}
    # another rule of the clean images may be named
    evaluation = Evaluation(rule=rule, clean="average")
    assert percent([right | answers], evaluation, clean=answers)["standard"] == 0
    # and answers to images do not stand for those in a loop
    with pytest.raises(KeyError):
        percent([answers], Evaluation(rule=rule))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"attack": "pgd-eot-linf8", "victim": "defence"}, "has no n_eval, so no answers in its"),
        ("pgd-linf8", r"its own verdict \(rule `in-loop-average`\) is not about this defence"),
    ],
)
def test_answers_in_a_loop_need_an_attack_that_asks_them_of_this_defence(config, attack, message):
    table = Table.model_validate(TABLE | {"evaluation": "diffhammer-average", "attack": attack})
    with pytest.raises(UserError, match=message) as error:
        table.chains(config, table.rows[0])
    assert "\n" not in str(error.value)


def test_the_ceiling_is_the_best_adversarially_trained_classifier():
    robust = np.array([1.0, 0.5, 0, 0] * 25)
    trained = {"weaker": np.zeros(100), "best": np.array([1.0, 1, 0, 0] * 25)}
    cells = to_ceiling(robust, trained)
    assert (cells["ceiling"], cells["to_ceiling"]) == ("best", -12.5)
    assert cells["to_ceiling_low"] < -12.5 < cells["to_ceiling_high"] < 0
    assert to_ceiling(robust, {}) == {}


@pytest.mark.parametrize(("minimum", "expected"), [("image", 25.0), ("attack", 50.0)])
def test_of_several_attacks_the_worst_counts(minimum, expected):
    rights = [{"first": np.array([1.0, 0, 1, 0])}, {"first": np.array([1.0, 1, 0, 0])}]
    found = percent(rights, Evaluation(minimum=minimum))
    assert found == {"standard": 50.0, "robust": expected}


@pytest.mark.parametrize("minimum", ["image", "attack"])
@pytest.mark.parametrize("rule", ["first", "average", "attack"])
@pytest.mark.parametrize("attacks", [1, 2, 3])
def test_one_attack_and_several_say_the_same_of_the_same_data(attacks, rule, minimum):
    """The clean images count as the attack itself says: not at all, or in its own verdict."""
    attacked = {"first": np.array([1.0, 1, 0, 1]), "average": np.array([1, 0.5, 0.25, 0.75])}
    attacked["attack"] = np.array([0.0, 1, 0, 0])  # the first and last were wrong from the start
    evaluation = Evaluation(rule=rule, minimum=minimum)
    found = percent([attacked] * attacks, evaluation, clean={"first": np.array([0.0, 1, 1, 0])})
    assert found == {"standard": 50, "robust": 100 * attacked[rule].mean()}


def test_what_is_wrong_without_an_attack_may_be_right_under_one_and_under_two():
    for attacks in (1, 2):
        rights = [{"first": np.ones(4)}] * attacks
        found = percent(rights, Evaluation(), clean={"first": np.array([1.0, 1, 0, 0])})
        assert found == {"standard": 50, "robust": 100}


@pytest.mark.parametrize(
    "attack",
    ["pgd-linf8", {"attack": "pgd-eot-linf8", "victim": "defence", "surrogate": "osd-t73"}],
)
def test_an_attack_s_verdict_on_another_victim_is_not_taken(config, attack):
    table = Table.model_validate(TABLE | {"attack": attack, "evaluation": "auto-attack"})
    with pytest.raises(UserError, match="not about this defence"):
        table.stores(config)


def test_scoreopt_s_verdict_in_table_3_is_of_the_row_s_own_defence(repository):
    """And where another purifier is attacked in its place, it is at the level of the row's."""
    table = load_result(repository / "config/tables/table3.yaml")
    for track in ("config.yaml", "paper.yaml"):
        config, verdicts = load_config(repository / "config" / track), 0
        for row in table.items():
            chains = table.chains(config, row)[1]
            if table.role(row, "evaluation") == "scoreopt-pgd-eot":
                (chain,) = chains
                assert chain.victim == f"{chain.restorer}.scoreopt-o.wrn-28-10"
                assert config.part("attack", chain.attack).options["gradient"] == "surrogate"
                verdicts += 1
            elif chains[0].purifier != "none":
                own = [chain for chain in chains if chain.adaptive]
                gradients = [config.part("attack", c.attack).value("gradient") for c in own]
                assert gradients == ["full", "identity"]
                if chains[0].purifier == "adp":
                    assert own == list(chains)
                    continue
                (instead,) = set(chains) - set(own)
                surrogate = config.part("purifier", victim_roles(instead.victim)["purifier"])
                sigma = config.part("purifier", instead.purifier).options.get("sigma", 0.5)
                alpha_bar = DISCRETE_ALPHA_BAR[surrogate.options["t"] - 1]
                assert (1 / alpha_bar - 1) ** 0.5 == pytest.approx(sigma, abs=0.0025)
        assert verdicts == 2


@pytest.mark.parametrize("track", ["config.yaml", "paper.yaml"])
@pytest.mark.parametrize(
    ("name", "kinds", "versions"),
    [
        ("table4", {"pgd", "diffattack", "autoattack"}, {"standard"}),  # on AT alone, the ceiling
        ("table6", {"autoattack"}, {"square"}),
    ],
)
def test_autoattack_s_verdict_judges_what_runs_in_it(repository, track, name, kinds, versions):
    """DiffAttack, and Square as DiffPure runs it: AutoAttack of Square alone."""
    config = load_config(repository / "config" / track)
    table = load_result(repository / "config" / "tables" / f"{name}.yaml")
    assert {config.evaluation(table.role(row, "evaluation")).rule for row in table.rows} == {
        "attack"
    }
    parts = [
        config.part("attack", threat.attack)
        for row in table.rows
        for threat in table.role(row, "attack")
    ]
    assert {part.kind for part in parts} == kinds
    assert {part.options["version"] for part in parts if "version" in part.options} == versions


def test_the_attacks_of_the_paper_track_have_their_published_numbers(repository):
    config = load_config(repository / "config" / "paper.yaml")
    diffpure, scoreopt, square = (
        config.part("attack", name).build()
        for name in ("bpda-eot-linf8", "pgd-eot-linf8-scoreopt", "autoattack-square-linf4")
    )
    for attack, numbers in ((diffpure, (50, 15, 150)), (scoreopt, (20, 20, 150))):
        assert (attack.n_iter, attack.eot_iter, attack.n_draws) == numbers
        assert (attack.step_size, attack.ball.eps) == (2 / 255, 8 / 255)
    assert [inner.n_queries for inner in square.attacks] == [5000]
    assert square.ball.eps == 4 / 255


def test_by_an_attack_s_verdict_images_are_asked_often_as_well(config):
    """Both, so that an attack that helped is seen by answers to the same draws."""
    table = Table.model_validate(TABLE | {"evaluation": "auto-attack"})
    clean, (attacked,) = table.chains(config, table.rows[0])
    assert (clean.n_draws, attacked.n_draws) == (10, 10)


@pytest.mark.parametrize("track", ["config.yaml", "paper.yaml"])
@pytest.mark.parametrize(
    "name", ["diffpure-bpda", "auto-attack", "diffpure-autoattack", "scoreopt-pgd-eot"]
)
def test_by_an_attack_s_verdict_the_standard_accuracy_is_that_of_one_answer(
    repository, track, name
):
    """DiffPure prints a single pass, not an ensemble of ten."""
    evaluation = load_config(repository / "config" / track).evaluation(name)
    logits = np.array([[[1.0, 0.9], [1.0, 0.9], [0.0, 5.0]]])  # two of three are right
    rules = get_args(OfAnswers)
    clean = {rule: judged(logits, np.array([0]), rule) for rule in rules}
    assert [clean[rule].item() for rule in ("mean-logits", "majority", "first")] == [0, 1, 1]
    found = percent([{"first": np.ones(1), "attack": np.zeros(1)}], evaluation, clean=clean)
    assert found == {"standard": pytest.approx(200 / 3), "robust": 0}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rule": "attack", "clean": "attack"}, "clean: Input should be 'first', 'average'"),
        ({"clean": "attack"}, "clean: Input should be"),
        ({"clean": "others"}, "the rule `others` needs 2 or more draws"),
    ],
)
def test_clean_images_are_judged_by_answers(repository, said, message):
    raw = read_yaml(repository / "config" / "config.yaml", "config")
    raw["evaluations"]["mine"] = said
    with pytest.raises(UserError, match=message) as caught:
        check_config(raw)
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "vote"), [([0, 0, 1, 1], 0), ([2, 1, 1, 2], 1), ([2, 1, 0], 0), ([1, 2, 2], 2)]
)
def test_of_a_tied_vote_the_smallest_class_is_the_answer(answers, vote):
    """As robust-eval decides it: the argmax over the votes."""
    logits = np.eye(3)[np.array([answers])]
    found = [judged(logits, np.array([label]), "majority").item() for label in range(3)]
    assert found == [float(label == vote) for label in range(3)]


def test_the_attack_s_own_verdict_counts_for_attacked_images_only(config):
    right = {"first": np.array([1.0, 1, 0, 0]), "attack": np.array([1.0, 0, 0, 0])}
    clean = {"first": np.array([1.0, 1, 1, 0])}
    found = percent([right], config.evaluation("auto-attack"), clean=clean)
    assert found == {"standard": 75.0, "robust": 25.0}


def test_no_answer_stands_for_an_attack_s_verdict():
    with pytest.raises(KeyError, match="attack"):
        percent([{"first": np.ones(2)}], Evaluation(rule="attack"))


def test_every_table_names_what_both_tracks_know(repository):
    for track in ("config.yaml", "paper.yaml"):
        config = load_config(repository / "config" / track)
        for file in sorted((repository / "config" / "tables").glob("*.yaml")):
            table = load_result(file)
            assert table.trigger(config)["roles"]["dataset"], f"{file.name} on {track}"
            assert table.served(config), f"{file.name} on {track}"
            assert table.stores(config), f"{file.name} on {track}"


KINDS = {
    **{"VP-SDE": "vpsde", "VE-SDE": "vesde", "probability-flow ODE": "ode", "DDPM": "ddpm"},
    **{"DDIM": "ddim", "GDMP": "gdmp", "LD-SDE": "ldsde", "one shot": "osd"},
    **{"ScoreOpt-O": "scoreopt", "ScoreOpt-N": "scoreopt", "AAOpt": "aaopt"},
    **{"contrastive guidance": "contrastive", "FreqPure": "freqpure", "OSGD": "osgd"},
    **{"heterogeneous noise": "heterogeneous", "DiffAP": "diffap"},
}


@pytest.mark.parametrize("track", ["config.yaml", "paper.yaml"])
def test_every_purifier_of_the_table_is_what_its_row_says(repository, track):
    """Its kind, level and number of steps, on either track."""
    config = load_config(repository / "config" / track)
    for row in load_result(repository / "config" / "tables" / "purifiers.yaml").rows:
        if row.purifier is None:
            continue
        part = config.part("purifier", row.purifier)
        options, words = part.options, f"{row.method}, {row.type}"
        assert part.kind == KINDS[row.method.split(",")[0]], words
        if "t" in options:
            assert re.search(rf"\b{options['t']}\b", row.type), words
        if said := re.search(r"(\d+) steps", row.type):
            below = [s for s in space_timesteps(options["respacing"]) if s < options["t"]]
            assert len(below) == int(said.group(1)), words


def test_the_mini_track_s_stand_ins_of_diffpure_s_images_are_those_of_its_other_tables(config):
    for name, same in [
        ("cifar10-bpda", "cifar10-adaptive"),
        ("imagenet-diffpure", "imagenet-adaptive"),
    ]:
        assert config.entry("dataset", name) == config.entry("dataset", same)
    for name in ("imagenet-288", "imagenet-diffpure-288"):
        assert config.entry("dataset", name).unavailable


def test_the_costs_of_table_10_are_the_paper_s(repository):
    """Which also says that the paper counts multiply-accumulates, at 224 pixels."""
    table = load_result(repository / "config" / "tables" / "table10.yaml")
    track = load_config(repository / "config" / "paper.yaml")
    for row in table.rows:
        cost = cost_of_restorer(track, row.restorer, 224)
        assert cost["macs_g"] == pytest.approx(row.paper.macs_g, rel=0.005)
        assert cost["params_m"] == pytest.approx(row.paper.params_m, rel=0.005)


def test_only_restorers_with_a_network_are_counted_and_none_without_costs(config):
    rows = [
        {"method": "a", "type": "t", "restorer": "wavelet"},
        {"method": "b", "type": "t"},
        {"method": "c", "type": "t", "restorer": "mdsr-x2"},
    ]
    table = Table.model_validate(TABLE | {"rows": rows, "costs": True})
    assert [cost_of_restorer(config, name, 32) for name in ("wavelet", "none")] == [{}, {}]
    (part,) = table.parts(config)
    assert (part.name, part.files()) == ("mdsr-x2", [])
    assert table.trigger(config)["parts"] == {"restorer": {"mdsr-x2": part.entry()}}
    assert Table.model_validate(TABLE).parts(config) == []


def test_a_table_depends_on_what_it_names_and_on_nothing_else(config):
    table = Table.model_validate(TABLE)
    before = table.trigger(config)
    purifier = config.purifiers["vpsde-t100"].model_copy(update={"note": "another"})
    for section, name, changes in (
        ("restorers", "edsr-x2", False),
        ("restorers", "mdsr-x2", True),
        ("classifiers", "wrn-28-10", True),
    ):
        other = getattr(config, section)[name].model_copy(update={"served_by": "another"})
        roles = getattr(config, section) | {name: other}
        changed = config.model_copy(update={section: roles})
        assert (table.trigger(changed) != before) == changes, name
    changed = config.model_copy(
        update={"purifiers": config.purifiers | {"vpsde-t100": purifier}, "seed": 7}
    )
    assert table.trigger(changed) != before
    assert table.trigger(config.model_copy(update={"seed": 7})) == before
    vote = config.evaluations["robust-eval"]
    for name, changes in (("single", True), ("robust-eval", False)):
        other = config.evaluations | {name: vote.model_copy(update={"n_draws": 3})}
        changed = config.model_copy(update={"evaluations": other})
        assert (table.trigger(changed) != before) == changes, name


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
    file = tmp_path / "tables" / "t.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(TABLE | change))
    with pytest.raises(UserError, match=message) as caught:
        load_result(file).trigger(config)
    assert "\n" not in str(caught.value)


def test_a_purifier_is_counted_by_how_often_it_asks_its_network(config):
    names = {"vpsde-t100": 10, "scoreopt-o": 5, "osd-t90": 1, "gdmp": 4 * 36, "none": 0}
    found = {name: cost_of_purifier(config, name, 32)["evaluations"] for name in names}
    assert found == names
    assert cost_of_purifier(config, "tvm-mask-guo2018", 32) == {"evaluations": 0}
    assert cost_of_purifier(config, "ebm", 32) == {"evaluations": 60}  # of its own network


def test_a_network_of_integer_timesteps_is_counted_too(repository):
    paper = load_config(repository / "config" / "paper.yaml")
    assert cost_of_purifier(paper, "osd-t10", 256) == {"evaluations": 1}


def test_a_table_against_cost_has_evaluations_in_it():
    assert "evaluations" not in Table.model_validate(TABLE).columns()
    assert "evaluations" in Table.model_validate(TABLE | {"picture": "cost"}).columns()


@pytest.mark.parametrize("options", [{}, {"costs": True}, {"picture": "cost"}])
def test_every_column_of_a_table_is_declared(options, tmp_path):
    columns = Table.model_validate(TABLE | options).columns()
    write_csv([{"method": "a"}], columns, tmp_path / "t.csv")
    assert list(read_csv(tmp_path / "t.csv", columns)["method"]) == ["a"]
