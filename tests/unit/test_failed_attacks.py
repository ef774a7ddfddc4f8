"""Attacks that help the defence: every result says so, and no claim is judged by them."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from matplotlib import pyplot as plt
from placed import put
from typer.testing import CliRunner

from puriflow.cli import app
from puriflow.config import load_config
from puriflow.metrics.accuracy import judged
from puriflow.plots import bars
from puriflow.results.columns import frame, read_csv
from puriflow.results.documents import Grid
from puriflow.results.figures.rounds import Rounds
from puriflow.results.measures import Measures, why_failed
from puriflow.results.sweep import Sweep
from puriflow.results.table import Table

# Right answers of ten to each of twenty images: 52.5 % without an attack, 73.5 % under one that
# helps, and 53.5 % where chance alone has changed them.
CLEAN = np.array([10, 10, 10, 9, 9, 8, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0])
HELPED = np.array([10, 10, 10, 10, 10, 9, 9, 9, 8, 9, 8, 8, 7, 7, 2, 7, 5, 7, 0, 2])
BY_CHANCE = CLEAN + np.array([0, 0, 0, 1, -1] * 3 + [1, -1, 1, -1, 2])
HARMED = np.maximum(CLEAN - 4, 0)
LABELS = np.arange(20) % 10
WORDS = "73.5 % of answers are right under it, 52.5 without (21.0 more, 1"
VICTIM = "none.scoreopt-o.wrn-28-10"
ROW = {"type": "t", "purifier": "scoreopt-o"}
TABLE = {
    "title": "t",
    "source": "Table 0",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "attack": {"attack": "bpda-eot-linf8", "victim": "defence"},
    "evaluation": "diffpure-bpda",
    "rows": [
        {"method": "helped", **ROW},
        {
            "method": "one of two",
            **ROW,
            "evaluation": "average-of-10",
            "attack": [
                {"attack": "bpda-eot-linf8", "victim": "defence"},
                {"attack": "pgd-eot-linf8", "victim": "defence"},
            ],
        },
        {"method": "undefended", "type": "t"},
    ],
}
SAYS = [
    {"column": "robust", "higher": "helped", "lower": "undefended"},
    {"column": "gap", "higher": "undefended", "lower": "helped"},
    {"column": "cross_entropy", "higher": "undefended", "lower": "helped"},
    {"column": "standard", "higher": "undefended", "lower": "helped"},
    {"column": "robust", "higher": "one of two", "lower": "undefended"},
]


def answers(counts: np.ndarray, draws: int = 10) -> np.ndarray:
    """Logits (n, draws, 10), of which the first `counts` draws of every image are right."""
    right = np.arange(draws) < counts[:, None]
    return np.eye(10, dtype=np.float32)[np.where(right, LABELS[:, None], LABELS[:, None] - 1)]


def measures(counts: np.ndarray) -> Measures:
    rules = ("first", "average", "worst", "majority", "mean-logits", "others")
    right = {rule: judged(answers(counts), LABELS, rule) for rule in rules}
    right["attack"] = np.zeros(20)
    return Measures(right, {"cross_entropy": np.ones(20), "mse": np.ones(20)}, None)


@pytest.mark.parametrize("rule", ["average", "worst", "majority", "mean-logits", "attack"])
def test_an_attack_that_helps_beyond_chance_has_failed_by_whatever_rule(rule):
    assert (CLEAN.mean(), HELPED.mean(), BY_CHANCE.mean()) == (5.25, 7.35, 5.35)
    assert why_failed(rule, measures(CLEAN), measures(HELPED)).startswith(WORDS)
    for counts in (CLEAN, BY_CHANCE, HARMED):
        assert why_failed(rule, measures(CLEAN), measures(counts)) is None
    assert why_failed(rule, measures(HELPED), measures(CLEAN)) is None


def test_an_attack_on_one_draw_is_judged_by_that_draw():
    """It knows the first, which is wrong under it; that it helps the others does not matter."""
    clean, helped = answers(CLEAN), answers(HELPED)[:, ::-1]  # right draws come last

    def of(logits):
        rules = ("first", "others", "average")
        return Measures({rule: judged(logits, LABELS, rule) for rule in rules}, {}, None)

    assert why_failed("first", of(clean), of(helped)) is None
    assert why_failed("others", of(clean), of(helped)) is not None


@pytest.mark.parametrize(("more", "said"), [(6, True), (5, False)])
def test_of_single_answers_it_takes_six_images_to_none(more, said):
    clean = Measures({"first": np.zeros(20)}, {}, None)
    attacked = Measures({"first": (np.arange(20) < more).astype(float)}, {}, None)
    assert (why_failed("first", clean, attacked) is not None) == said
    assert why_failed("majority", clean, attacked) == why_failed("first", clean, attacked)


@pytest.mark.parametrize("draws", [1, 10])
def test_attacks_that_do_nothing_are_said_to_have_failed_no_more_often_than_agreed(draws):
    """Of forty, one: the interval of 95 % has two sides."""
    random, said = np.random.default_rng(0), []
    for chance in random.random((2000, 20)):
        clean, attacked = random.binomial(draws, chance, (2, 20)) / draws
        one, other = ({"average": x, "first": x} for x in (clean, attacked))
        said.append(why_failed("average", Measures(one, {}, None), Measures(other, {}, None)))
    assert len([why for why in said if why]) <= 60


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


def stores(results, track, rows, counts) -> None:
    """The stores of a table's rows, whose answers to attacked images are right so often."""
    table = Table.model_validate(TABLE | {"rows": rows})
    images = np.full((20, 3, 8, 8), 0.5, np.float32)
    samples = {"labels": LABELS, "indices": np.arange(20)}
    for row in table.rows:
        clean, attacked = table.chains(track, row)
        for chain in (clean, *attacked):
            right = counts.get(chain.attack, HARMED)
            several = answers(right if row.purifier else right // 10 * 10)
            arrays = {
                "images": {"images": images},
                "attack": {"images": images, "success": right < 5, "clean_success": CLEAN < 2},
                "classify": {"logits": several[:, 0]},
                "evaluate": {"answers": several, "images": images, "variance": np.zeros(20)},
            }
            for stage in chain.stages():
                folder = chain.folder(stage, "0-of-1")
                if not (results / folder).is_dir():
                    name = next(iter(arrays[stage]))
                    put(results, folder, track, arrays[stage], name=name, **samples)


@pytest.fixture
def built(tmp_path, track, repository):
    """Builds the table and judges its claims on the command line, as a user does."""

    def build(**counts):
        results = tmp_path / "results"
        stores(results, track, TABLE["rows"], {"none": CLEAN} | counts)
        claim = {"about": "table0", "section": "1", "quote": "so", "says": SAYS}
        claims = {"margins": {"points": 3, "ratio": 1.05}, "claims": [claim]}
        for name, said in {"tables/table0": TABLE, "claims": claims}.items():
            file = tmp_path / "config" / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(said))
        claims, where = str(tmp_path / "config" / "claims.yaml"), ["--results", str(results)]
        where += ["--config", str(repository / "config" / "config.yaml")]
        commands = (
            [str(tmp_path / "config" / "tables" / "table0.yaml"), *where],
            [claims, "--about", "table0", *where],
            [claims, "--page", "table0", *where],
        )
        ended = [CliRunner().invoke(app, ["result", *command]) for command in commands]
        assert [one.exit_code for one in ended] == [0] * 3, [one.output for one in ended]
        return results, ended[0]

    return build


def test_everything_says_that_an_attack_failed_and_no_claim_is_judged_by_it(built):
    results, ended = built(**{"bpda-eot-linf8": HELPED})
    for method in ("helped", "one of two"):
        assert f"an attack failed on {method}: bpda-eot-linf8: {WORDS}" in ended.stderr
    assert "undefended" not in ended.stderr
    assert len(ended.stdout.splitlines()) == 4  # the files

    table = read_csv(results / "table0.csv", Table.model_validate(TABLE).columns())
    assert list(table["attack_failed"].notna()) == [True, True, False]
    assert table["standard"][0] == 52.5
    assert table["by_attack"].notna().tolist() == [False, True, False]
    both = [f"{name} on the defence: " for name in ("bpda-eot-linf8", "pgd-eot-linf8")]
    assert table["by_attack"][1] == f"{both[0]}73.5; {both[1]}{10 * HARMED.mean():.1f}"
    measured = read_csv(
        results / "measures" / "table0.csv", ("attack", "rule", "accuracy", "attack_failed")
    )
    failed = measured[measured["attack_failed"].notna()]
    assert set(failed["attack"]) == {"bpda-eot-linf8"}
    assert set(failed["rule"]) > {"average", "worst", "majority", "attack"}
    (verdict,) = measured[measured["rule"] == "attack-on-clean"]["accuracy"][:1]
    assert verdict == 85  # three of twenty are successes before the attack

    page = Table.model_validate(TABLE).page(table)
    assert page[0].startswith("An attack failed on helped, one of two: more answers are right")
    notes = [row[-1] for row in page[1].rows]
    assert notes[0].startswith(f"an attack failed: bpda-eot-linf8: {WORDS}")
    for file in ("pages/table0.html", "pages/table0.rst"):
        assert "failed on helped" in (results / file).read_text().replace("\\", "")

    (axes,) = bars.draw(table, "t").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["helped\n(attack failed)", "one of two\n(attack failed)", "undefended"]
    plt.close("all")

    claims = read_csv(results / "claims" / "table0.csv", ("column", "verdict", "note"))
    verdicts = list(claims["verdict"])
    assert verdicts[:3] == ["not measured"] * 3
    assert claims["note"][:3].str.startswith(f"the attack on helped failed: {WORDS}").all()
    assert "not measured" not in verdicts[3:]  # nothing is wrong with these


def test_within_chance_nothing_is_said(built):
    results, ended = built(**{"bpda-eot-linf8": BY_CHANCE})
    assert ended.stderr == ""
    table = read_csv(results / "table0.csv", Table.model_validate(TABLE).columns())
    assert table["attack_failed"].isna().all()
    assert [type(block) for block in Table.model_validate(TABLE).page(table)] == [Grid]
    claims = read_csv(results / "claims" / "table0.csv", ("verdict",))
    assert "not measured" not in set(claims["verdict"])


class Stores:
    """The measures of chains, of which one attack helps; of one answer, the vote's."""

    def measure(self, chain):
        counts = {"none": CLEAN, "pgd-linf8": HELPED}.get(chain.attack, HARMED)
        measured = measures(counts)
        if chain.n_draws == 1:
            return replace(measured, right={"first": (counts > 5).astype(float)})
        return measured

    def read(self, chain, stage, array):
        return np.arange(20)

    def source(self, chain):
        return "CIFAR-10", "of which"


def test_a_sweep_says_so_in_its_lines_and_has_crosses_in_its_picture(track):
    raw = {"title": "t", "source": "s", "dataset": "cifar10", "along": "attack"}
    raw |= {"purifier": "scoreopt-o", "classifier": "wrn-28-10"}
    for attacks, crosses in ((["pgd-linf8", "pgd-linf4"], 1), (["pgd-linf4"], 0)):
        sweep = Sweep.model_validate(raw | {"attack": attacks, "evaluation": "average-of-10"})
        lines = frame(sweep.lines(track, Stores()), sweep.columns())
        failed = lines[lines["attack_failed"].notna()]
        said = {("pgd-linf8", "robust"), ("pgd-linf8", "cross_entropy_attacked")}
        found = set(zip(failed["attack"], failed["metric"], strict=True))
        assert found == (said if crosses else set())
        for axes, count in zip(sweep.draw(track, lines).axes, (0, crosses, crosses), strict=True):
            drawn = [line for line in axes.lines if line.get_marker() == "x"]
            assert sum(len(line.get_xdata()) for line in drawn) == count
    plt.close("all")


class Sources:
    """What a figure reads."""

    def __init__(self, track):
        self.track, self.stores = track, Stores()

    def values(self, line, metric, own):
        return [{"line": line, "metric": metric, "value": value} for value in own]


def test_a_figure_of_rounds_says_so_in_its_notes_values_and_picture(track, capsys):
    raw = {"kind": "rounds", "title": "t", "source": "s", "claim": "c", "how": "h"}
    raw |= {"dataset": "cifar10", "classifier": "wrn-28-10", "lines": [{"label": "SR"}]}
    for attack, failed in (("pgd-linf8", True), ("pgd-linf4", False)):
        built = Rounds.model_validate(raw | {"attack": attack}).compute(Sources(track))
        (row,) = built.rows
        assert ("the attack on SR failed: " in row["note"]) == failed
        assert (row["attack_failed"] is not None) == failed
        void = {one["metric"] for one in built.values if "value" not in one}
        assert void == ({"robust", "cross_entropy"} if failed else set())
        (label,) = built.drawing.axes[1].get_xticklabels()
        assert label.get_text() == ("SR\n(attack failed)" if failed else "SR")
        assert ("an attack failed on SR" in capsys.readouterr().err) == failed
    plt.close("all")
