"""Sweeps: their points, their numbers, and what is said of mistakes."""

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib import pyplot as plt

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.results import load_result
from puriflow.results.measures import Measures
from puriflow.results.sweep import PANELS, ROLES

SWEEP = {
    "title": "levels",
    "source": "tests",
    "dataset": "cifar10",
    "classifier": ["wrn-28-10", "wrn-70-16"],
    "attack": ["pgd-linf8", {"attack": "pgd-eot-linf8", "victim": "defence"}],
    "restorer": ["none", "mdsr-x2"],
    "purifier": ["none", "vpsde-t100", "vpsde-t75-twice"],
    "along": "purifier.t",
}


@pytest.fixture
def config(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.fixture
def loaded(tmp_path):
    def load(**changes):
        file = tmp_path / "sweeps" / "sweep.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(SWEEP | changes))
        return load_result(file)

    return load


class Stores:
    """Four images, of which a purifier loses one, and an attack all but one."""

    def measure(self, chain):
        right = np.ones(4)
        right[: 3 if chain.attack != "none" else int(chain.purifier != "none")] = 0
        metrics = {"cross_entropy": np.array([1.0, 1, 3, 3])}
        if chain.purifier != "none":
            metrics["mse"] = np.array([0.0, 0.5, 0.25, 0.25])
        return Measures({"first": right}, metrics, 0.5)

    def read(self, chain, stage, array):
        assert (stage, array) == ("images", "index")
        return np.arange(4)

    def source(self, chain):
        return "CIFAR-10", "of which"


def lines_of(sweep, config):
    return pd.DataFrame(sweep.lines(config, Stores()), columns=list(sweep.columns()))


def test_every_combination_is_measured_once_in_long_form(loaded, config):
    lines = lines_of(loaded(), config)
    roles = list(ROLES)
    assert len(lines.drop_duplicates(roles)) == 2 * 2 * 2 * 3
    assert not lines.duplicated([*roles, "metric"]).any()
    assert set(lines["attack"]) == {"pgd-linf8", "pgd-eot-linf8 on the defence"}
    along = lines.drop_duplicates("purifier").set_index("purifier")["along"].to_dict()
    assert along == {"none": 0, "vpsde-t100": 100, "vpsde-t75-twice": 75}
    assert lines[lines["purifier"] == "vpsde-t100"]["note"].str.contains("VP-SDE of 10").all()


def test_the_numbers_are_those_of_the_images(loaded, config):
    sweep = loaded(classifier="wrn-28-10", attack="pgd-linf8", restorer="none")
    lines = lines_of(sweep, config)
    one = lines[lines["purifier"] == "vpsde-t100"].set_index("metric")
    assert one["value"].to_dict() == {
        "standard": 75,
        "robust": 25,
        "cross_entropy_clean": 2,
        "mse_clean": 0.25,
        "cross_entropy_attacked": 2,
        "mse_attacked": 0.25,
        "seconds_per_image": 0.5,
    }
    assert (one["n"] == 4).all()
    # Student's with three degrees of freedom: 3.1824 * 1.1547 / 2 either way
    assert one.loc["cross_entropy_clean", ["low", "high"]].tolist() == [0.1626, 3.8374]
    assert "mse_clean" not in set(lines[lines["purifier"] == "none"]["metric"])


def test_what_the_track_cannot_serve_says_why(loaded, config):
    sweep = loaded(classifier=["wrn-28-10", "bai2021-deit-s"], along="classifier")
    lines = lines_of(sweep, config)
    absent = lines[lines["classifier"] == "bai2021-deit-s"]
    assert absent["metric"].isna().all()
    assert absent["note"].str.contains("photographs are too few").all()


@pytest.mark.parametrize("along", ["purifier.t", "restorer", "classifier"])
def test_the_picture_has_a_line_for_each_combination(loaded, config, along):
    sweep = loaded(along=along)
    drawn = sweep.draw(config, lines_of(sweep, config))
    combinations = 24 / len(getattr(sweep, along.partition(".")[0]))
    assert [len(axes.containers) for axes in drawn.axes] == [combinations] * len(PANELS)
    lines = {container.lines[0].get_linestyle() for container in drawn.axes[0].containers}
    assert lines == ({"-"} if along == "purifier.t" else {"None"})  # none between names
    words = {"purifier.t": "diffusion time t' of the purifier"}.get(along, along)
    assert drawn.axes[-1].get_xlabel() == f"{words}\n4 images, 95 % intervals"
    assert drawn.axes[0].get_ylabel() == "standard accuracy (%)"


def test_a_sweep_depends_on_where_its_combinations_lie(loaded, config):
    sweep = loaded()
    along = {"none": 0, "vpsde-t100": 100, "vpsde-t75-twice": 75}
    assert sweep.trigger(config)["along"] == along
    assert sweep.stores(config) == sweep.table.stores(config)


class Draws:
    """Four images, or two of them, of whose draws the reference's vary half as much."""

    def measure(self, chain):
        mine = chain.purifier != "vpsde-t100"
        right = np.array([1.0, mine, mine, 0])
        variance = np.array([0.1, 0.2, 0.3, 0.4]) * (1 + mine)
        metrics = {"cross_entropy": 1 + right, "bias2": 0.01 - variance, "variance": variance}
        count = len(self.read(chain, "images", "index"))
        return Measures(
            {"first": right[:count], "average": right[:count]},
            {name: own[:count] for name, own in metrics.items()},
            None,
        )

    def read(self, chain, stage, array):
        return np.arange(2 if chain.dataset == "cifar10-bpda" else 4)

    def source(self, chain):
        return "CIFAR-10", "of which"


SOLVERS = {
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "restorer": "none",
    "evaluation": "average-of-10",
    "purifier": ["vpsde-t100-random", "vpsde-t75-twice", "ode-t100", "scoreopt-o"],
    "places": {"scoreopt-o": 146},
    "line": ["purifier.kind", "purifier.rounds"],
    "panels": ["robust", "variance_clean"],
    "reference": {"purifier": "vpsde-t100", "dataset": "cifar10-bpda"},
}


def test_a_combination_is_compared_with_the_reference_on_the_images_of_both(loaded, config):
    sweep = loaded(**SOLVERS)
    lines = pd.DataFrame(sweep.lines(config, Draws()), columns=list(sweep.columns()))
    chains = [row.purifier for row in sweep.items()]
    assert chains == [*SOLVERS["purifier"], "vpsde-t100"]
    one = lines[lines["purifier"] == "ode-t100"].set_index("metric")
    ratio = one.loc["variance_clean", ["ratio", "ratio_low", "ratio_high", "n", "n_both"]]
    assert ratio.tolist() == [2, 2, 2, 4, 2]  # 0.2 and 0.4 over 0.1 and 0.2
    assert one.loc["robust", ["value", "difference", "n_both"]].tolist() == [75, 50, 2]
    assert one.loc["cross_entropy_clean", "ratio"] == 1.333  # 2 and 2 over 2 and 1
    assert np.isnan(one.loc["bias2_clean", "ratio"])  # of what is below zero
    reference = lines[lines["purifier"] == "vpsde-t100"]
    assert reference[["difference", "ratio"]].isna().all(axis=None)
    assert (reference["n"] == 2).all()
    assert "ratio" not in loaded().columns()


def test_a_reference_of_other_images_is_refused(loaded, config):
    class Others(Draws):
        def source(self, chain):
            return chain.dataset, ""

    message = r"of other images \(cifar10-bpda\) than what is compared with it \(cifar10\)"
    with pytest.raises(UserError, match=message):
        list(loaded(**SOLVERS).lines(config, Others()))


def test_a_reference_that_is_swept_keeps_its_line(loaded, config):
    changes = {"along": "purifier", "places": {}, "line": None, "panels": ["robust"]}
    changes |= {"evaluation": ["average-of-10", "robust-eval"]}
    purifiers = ["vpsde-t100", "ode-t100"]
    reference = {"purifier": "vpsde-t100"}
    sweep = loaded(**SOLVERS | changes | {"purifier": purifiers, "reference": reference})
    lines = pd.DataFrame(sweep.lines(config, Draws()), columns=list(sweep.columns()))
    assert set(lines["line"]) == {"average-of-10", "robust-eval"}
    assert set(lines["along"]) == set(purifiers)
    robust = lines[lines["metric"] == "robust"]
    assert robust["difference"].isna().tolist() == [True, True, False, False]


def test_every_purifier_under_another_attack_is_compared_with_itself_under_its_own(loaded, config):
    own = {"attack": "pgd-linf8", "victim": "defence"}
    transferred = own | {"surrogate": "ode-t100"}
    changes = {"attack": transferred, "reference": {"attack": own}, "along": "purifier"}
    purifiers = ["vpsde-t100", "vpsde-t75-twice"]
    sweep = loaded(**SOLVERS | changes | {"purifier": purifiers, "places": {}, "line": None})
    lines = pd.DataFrame(sweep.lines(config, Draws()), columns=list(sweep.columns()))
    robust = lines[lines["metric"] == "robust"]
    assert robust["purifier"].tolist() == [*purifiers, *purifiers]
    named = [own["attack"] + " on the defence with ode-t100", own["attack"] + " on the defence"]
    assert robust["attack"].tolist() == [named[0], named[0], named[1], named[1]]
    assert robust["difference"].notna().tolist() == [True, True, False, False]
    assert "reference" not in set(lines["line"])  # each is in its own place


def test_a_line_of_the_picture_is_of_options_and_their_defaults(loaded, config):
    sweep = loaded(**SOLVERS)
    lines = pd.DataFrame(sweep.lines(config, Draws()), columns=list(sweep.columns()))
    named = lines.drop_duplicates("purifier").set_index("purifier")
    assert named["line"].to_dict() == {
        "vpsde-t100-random": "vpsde, 1",
        "vpsde-t75-twice": "vpsde, 2",
        "ode-t100": "ode, 1",
        "scoreopt-o": "scoreopt",
        "vpsde-t100": "reference",
    }
    assert named["along"].tolist() == [100, 75, 100, 146, 100]
    figure = sweep.draw(config, lines)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "robust accuracy (%)",
        "variance over draws, clean",
    ]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "kind, rounds of the purifier"
    names = [text.get_text() for text in legend.get_texts()]
    assert set(names) == {"vpsde, 1", "vpsde, 2", "ode, 1", "scoreopt", "reference (n = 2)"}
    (level,) = (x for x in figure.axes[1].lines if x.get_label() == "reference (n = 2)")
    assert set(level.get_ydata()) == {0.15}
    plt.close("all")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"along": "purifer.t"}, r"unknown role \(along .*did you mean 'purifier'"),
        ({"along": "purifier.tt"}, "vpsde-t100 has no number 'tt'"),
        ({"line": ["purifer.rounds"]}, r"unknown role \(line .*did you mean 'purifier'"),
        (
            {"line": ["evaluation"]},
            r"line takes options, such as purifier\.t, and not 'evaluation'",
        ),
        ({"places": {"vpsde-t10": 1}}, r"unknown name \(places .*did you mean 'vpsde-t100'"),
        ({"panels": ["bias"]}, r"unknown metric \(panels in "),
        ({"reference": {"purifier": "vpsde-t1000"}}, "unknown purifier 'vpsde-t1000'"),
        ({"reference": {"attack": "pgd-linf9"}}, "unknown attack 'pgd-linf9': did you mean"),
        ({"reference": {"atack": "pgd-linf8"}}, "reference.atack"),
        ({"features": "vgg19"}, "features vgg19 has 5 layers; name one of 1"),
        ({"along": "attack.kind"}, "attack pgd-linf8 has no number 'kind'"),
        ({"purifier": ["vpsde-t100", "vpsde-t100"]}, "two of purifier are the same"),
        ({"purifier": ["vpsde\nt100"]}, "must be one line"),
        ({"purifier": []}, "purifier"),
        ({"purifier": ["vpsde-t101"]}, "unknown purifier 'vpsde-t101': did you mean 'vpsde-t10'"),
        ({"restorers": ["none"]}, "restorers"),
        ({"evaluation": "diffpure-bpda"}, "name another evaluation"),
    ],
)
def test_mistakes_are_one_line(loaded, config, changes, message):
    def read():
        sweep = loaded(**changes)
        return sweep.trigger(config), sweep.stores(config)

    with pytest.raises(UserError, match=message) as caught:
        read()
    assert "\n" not in str(caught.value)


def test_the_project_s_sweeps_are_served(repository):
    for file in (repository / "config" / "sweeps").glob("*.yaml"):
        sweep = load_result(file)
        config = load_config(repository / "config" / f"{sweep.track or 'config'}.yaml")
        assert sweep.served(config) == list(sweep.table.rows)
        assert sweep.trigger(config)["lines"]
