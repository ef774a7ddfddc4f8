"""What a cluster is asked for follows the work: options say it as the parts themselves count it."""

from dataclasses import replace

import pytest
import torch
from tiny_parts import tiny
from torch import nn

from puriflow.attacks.base import Batch
from puriflow.config import load_config
from puriflow.defence import Defence
from puriflow.randomness import AttackNoise
from puriflow.registry import kinds
from puriflow.results.costs import cost_of_purifier
from puriflow.runtime import STARTUP, evaluations, minutes, passes, shape_of

MINI = load_config("config/config.yaml")
PAPER = load_config("config/paper.yaml")
SERVED = [name for name in MINI.purifiers if MINI.why_unavailable("purifier", name) is None]
OF_EACH = {MINI.part("purifier", name).kind: name for name in reversed(SERVED)}


@pytest.mark.parametrize("name", OF_EACH.values())
def test_evaluations_are_as_counted(name):
    counted = cost_of_purifier(MINI, name, 32)["evaluations"]
    found = evaluations(MINI.part("purifier", name))
    assert counted <= found <= 2.5 * counted


class Right(nn.Module):
    """A classifier of ten classes that always answers 0, and has a gradient."""

    def forward(self, images):
        means = images.flatten(1).mean(1, keepdim=True)
        return 1e-3 * means * torch.arange(10.0) + torch.eye(10)[:1] * 100


VARIANTS = [("autoattack", {"version": version}) for version in ("rand", "square")]
VARIANTS += [("apgd", {"loss": "dlr-targeted", "n_target_classes": 3, "n_restarts": 2})]
VARIANTS += [("pgd", {"n_eval": 3, "eval_every": 2}), ("bpda-eot", {"gradient": "full"})]


OF_ANY = sorted(kinds("attacks").keys() - {"diffattack"})  # that needs a diffusion's steps


@pytest.mark.parametrize(("kind", "options"), [*((kind, {}) for kind in OF_ANY), *VARIANTS])
def test_passes_are_as_an_attack_that_fails_counts_them(kind, options):
    attack = tiny("attacks", kind, **options)
    many = {"n_iter": 20, "n_queries": 100}.items()  # beside which a few judgements do not count
    more = {option: value for option, value in many if option in attack.known.options}
    attack = replace(attack, options={**attack.options, **more})
    image, label = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, dtype=torch.int64)
    victim = Defence(None, None, Right())
    state = attack.build()(Batch(victim, image, label, AttackNoise(0, [0])))
    assert 0.8 * int(state["queries"]) <= sum(passes(attack)) <= 1.6 * int(state["queries"])


def test_the_published_adaptive_attacks_take_days_and_the_others_hours():
    """AutoAttack at t' = 150: 1,818,750 evaluations of ADM an image, 45 hours at 25 TFLOP/s."""
    parts = {
        "attack": PAPER.part("attack", "autoattack-rand-linf4"),
        "purifier": PAPER.part("purifier", "vpsde-t150"),
    }
    diffattack = PAPER.part("attack", "diffattack-linf4")
    assert passes(parts["attack"]).gradients == passes(diffattack).gradients == 4040
    assert 2 * 45 * 60 < minutes(parts, (1, 224, 224)) < 2 * 60 * 60
    assert minutes({"attack": PAPER.part("attack", "pgd-linf4")}, (64, 224, 224)) < 180
    purified = {"purifier": parts["purifier"]}
    assert minutes(purified, (64, 224, 224)) < 180


def test_more_images_shards_and_draws_count_in_proportion():
    parts = {"purifier": PAPER.part("purifier", "vpsde-t90")}
    work = minutes(parts, (1000, 224, 224)) - STARTUP
    assert minutes(parts, (500, 224, 224)) - STARTUP == pytest.approx(work / 2, abs=1)
    assert minutes(parts, (500, 224, 224), draws=2) - STARTUP == pytest.approx(work, abs=1)


def test_the_images_are_those_of_the_store(four_images, tmp_path):
    assert shape_of(str(four_images.folder / "manifest.json")) == (4, 224, 224)
    later = tmp_path / "manifest.json"
    assert shape_of(str(later)) is None
    later.write_bytes((four_images.folder / "manifest.json").read_bytes())
    assert shape_of(str(later)) == (4, 224, 224)
