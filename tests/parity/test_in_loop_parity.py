"""Verdicts in the loop against recorded ones: DiffHammer's, and Fixed AutoAttack's shares."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional as F

from puriflow.attacks.autoattack import AutoAttack
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack, Batch
from puriflow.attacks.in_loop import InLoop
from puriflow.defence import Defence
from puriflow.metrics.accuracy import judged_in_loop
from puriflow.randomness import AttackNoise


class Still(Attack):
    """An attack of so many steps that hands in a grey level of its own."""

    ball = Ball(1.0)
    name = "still"

    def __init__(self, n_steps, level=0.0):
        self.n_steps, self.level = n_steps, level

    def begin(self, batch):
        x = torch.full_like(batch.images, self.level)
        done = torch.ones(len(x), dtype=torch.bool) if self.level else None
        state = {"x_adv": x, "queries": torch.zeros(len(x), dtype=torch.int64)}
        return state if done is None else state | {"success": done}

    def step(self, batch, state, number):
        return state


@dataclass(frozen=True)
class Table(Batch):
    """A batch whose victim answers from a table of logits (image, evaluation, draw, class)."""

    evaluated: torch.Tensor = None
    control: torch.Tensor = None

    def take(self, positions):
        taken = super().take(positions)
        tables = {"evaluated": self.evaluated, "control": self.control}
        return replace(self, **vars(taken) | {k: t[positions] for k, t in tables.items()})

    def logits(self, x, step, draws=(0,), gradient="full"):
        word, _, k = step.rpartition(" ")
        if word not in ("evaluated", "control"):  # a pass of the attack's own
            return self.evaluated[:, 0, 0].repeat(len(draws), 1)
        logits = getattr(self, word)[:, int(k)]
        return torch.cat([logits[:, draw] for draw in draws])


def table(labels, evaluated, control):
    images = torch.zeros(len(labels), 3, 2, 2)
    noise = AttackNoise(0, range(len(labels)))
    victim = Defence(None, None, torch.nn.Identity())
    return Table(victim, images, labels, noise, evaluated=evaluated, control=control)


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_the_worst_step_by_average_and_by_any_draw(fixture, tag):
    f = fixture("diffhammer-eval")
    run = next(run for run in f.config["runs"] if run["tag"] == tag)
    logits, labels = f[f"in.{tag}.r0.logits"], f[f"in.{tag}.y"]
    batch = table(labels, logits, logits)
    state = InLoop(Still(run["n_iter"]), run["n_eval"], 1)(batch)
    average, worst = f[f"out.{tag}.r0.asr_avg"], f[f"out.{tag}.r0.asr_wor"]
    so_far = state["wrong"].cummax(1).values
    counted = average >= 0  # not before the first step, nor after its batch was stopped
    assert counted.any()
    torch.testing.assert_close(so_far[counted].double(), average[counted], rtol=0, atol=1e-6)
    assert torch.equal((so_far[counted] > 0).double(), worst[counted])
    if run["n_restart"] == 1:
        right = judged_in_loop(state["wrong"].numpy(), state["voted_wrong"].numpy())
        for rule, name in (("in-loop-average", "avg"), ("in-loop-worst", "wor")):
            expected = f[f"out.{tag}.report.adv_acc_{name}"].item()
            assert right[rule].mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_the_control_is_judged_by_the_same_rules(fixture, tag):
    """DiffHammer's has the draws of one evaluation."""
    f = fixture("diffhammer-eval")
    clean, labels = f[f"in.{tag}.clean_logits"][:, None], f[f"in.{tag}.y"]
    state = InLoop(Still(0), clean.shape[2], 1)(table(labels, 0 * clean, clean))
    control = state["control_wrong"].numpy(), state["control_voted_wrong"].numpy()
    right = judged_in_loop(*control)
    for rule, name in (("in-loop-average", "avg"), ("in-loop-worst", "wor")):
        expected = f[f"out.{tag}.report.clean_acc_{name}"].item()
        assert right[rule].mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tag", ["d20", "d5", "d1"])
def test_fixed_autoattack_keeps_the_smallest_share_of_right_answers(fixture, tag):
    f = fixture("fixed-autoattack")
    run = next(run for run in f.config["runs"] if run["tag"] == tag)
    answers, labels = f[f"in.{tag}.answers"], f[f"in.{tag}.y"]
    logits = F.one_hot(answers, run["classes"]).float()
    attacks = [Still(1, level / 4) for level in (1, 2, 3)]
    made = AutoAttack(Ball(1.0), attacks, n_eval=run["eval_iter"])
    state = made(table(labels, logits, logits))
    share = 1 - state["wrong"].cummax(1).values.T
    torch.testing.assert_close(share, f[f"out.{tag}.share"], rtol=0, atol=1e-6)
    right = judged_in_loop(state["wrong"].numpy(), state["voted_wrong"].numpy())
    accuracy = f[f"out.{tag}.accuracy"][-1].item()
    assert right["in-loop-average"].mean() == pytest.approx(accuracy, abs=1e-6)
    chosen = (4 * state["x_adv"][:, 0, 0, 0]).long()  # the clean image is 0
    assert torch.equal(chosen, f[f"out.{tag}.chosen"])
    assert torch.equal(state["success_by"] + 1, f[f"out.{tag}.chosen"])
