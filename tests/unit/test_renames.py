"""Old names of kinds, options and keys are answered with the new ones, which are there."""

import pytest
import yaml

from puriflow.config import check_config, validated
from puriflow.errors import UserError
from puriflow.registry import family_named, kinds, part_of
from puriflow.renames import KINDS_RENAMED, OPTIONS_RENAMED
from puriflow.training.classifiers import Adversary, ClassifierRecipe

KINDS = [(s, old, new) for s, pairs in KINDS_RENAMED.items() for old, new in pairs.items()]
OPTIONS = [
    (section, kind, old, new)
    for section, by_kind in OPTIONS_RENAMED.items()
    for kind, pairs in by_kind.items()
    for old, new in pairs.items()
]


@pytest.mark.parametrize(("section", "old", "new"), KINDS)
def test_an_old_kind_names_the_new_one(section, old, new):
    assert new in kinds(section)
    with pytest.raises(UserError, match=f"kind '{old}' is now '{new}'"):
        part_of(family_named(section).roles[0], "x", {"kind": old})


@pytest.mark.parametrize(("section", "kind", "old", "new"), OPTIONS)
def test_an_old_option_names_the_new_one(section, kind, old, new):
    assert new in kinds(section)[kind].options
    with pytest.raises(UserError, match=f"option '{old}' of {kind} is now '{new}'"):
        part_of(family_named(section).roles[0], "x", {"kind": kind, old: 1})


@pytest.mark.parametrize(("old", "new"), [("step", "step_size"), ("steps", "n_iter")])
def test_an_old_key_of_an_adversary_names_the_new_one(old, new):
    assert new in Adversary.model_fields
    recipe = {"steps": 1, "batch": 1, "crop": 32, "learning_rate": 0.1, "warmup": 1}
    with pytest.raises(UserError, match=f"adversary.{old} is now {new}"):
        validated(ClassifierRecipe, {**recipe, "adversary": {old: 2}}, "recipe of x")


def test_an_old_key_of_an_evaluation_names_the_new_one(repository):
    raw = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    with pytest.raises(UserError, match=r"config: evaluations\.votes\.draws is now n_draws"):
        check_config({**raw, "evaluations": {"votes": {"draws": 2}}})
