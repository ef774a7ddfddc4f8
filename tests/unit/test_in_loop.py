"""Evaluation in the attack's loop: what is counted, of whom, and when an image is left alone."""

import pytest
import torch
from scipy import stats
from torch import nn

from puriflow.attacks import apgd, autoattack, pgd
from puriflow.attacks import in_loop as loop
from puriflow.attacks.base import Batch
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise

N = 200
answers = loop._answers


class Scripted(nn.Module):
    """A purifier that makes an image dark or light by what is scripted of its step and draw."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.asked = wrong, []

    def forward(self, x, noise):
        self.asked.append(noise)
        step, draws = noise
        dark = torch.tensor([float(self.wrong(step, draw)) for draw in draws])
        return 0 * x + dark.repeat_interleave(len(x) // len(draws))[:, None, None, None]


class Chancy(nn.Module):
    """A purifier whose answer to every image is wrong by a known chance, whatever the image."""

    def __init__(self, chance):
        super().__init__()
        self.chance = chance

    def forward(self, x, noise):
        wrong = noise.uniform(0, 1) < self.chance
        return 0 * x + wrong.float()[:, None, None, None]


class Brightness(nn.Module):
    """Class 0 of dark images, 1 of light ones."""

    def forward(self, x):
        light = x.mean((1, 2, 3))
        return torch.stack([1 - light, light], 1)


class Words(AttackNoise):
    def victim(self, step, draws=(0,)):
        return step, draws

    def take(self, positions):
        return Words(self.seed, [self.indices[i] for i in positions])


def attack(**options):
    given = {"eps": "8/255", "step_size": "2/255", "n_iter": 4, "random_start": False}
    return pgd.build(**given, **options)


def scripted(wrong, **options):
    """The state after an attack on one image, and the words that the purifier was asked with."""
    purifier = Scripted(wrong)
    images = torch.full((1, 3, 8, 8), 0.5)
    batch = Batch(Defence(None, purifier, Brightness()), images, torch.tensor([0]), Words(0, [7]))
    return attack(n_eval=4, **options)(batch), [step for step, _ in purifier.asked]


def test_every_step_is_evaluated_and_so_is_the_clean_image_at_its_side():
    wrong = {("evaluated 2", 0), ("evaluated 2", 1), ("evaluated 3", 3), ("control 1", 2)}
    state, asked = scripted(lambda step, draw: (step, draw) in wrong)
    assert state["wrong"].tolist() == [[0, 0, 0.5, 0.25, 0]]
    assert state["control_wrong"].tolist() == [[0, 0.25, 0, 0, 0]]
    assert [step for step in asked if step.startswith("evaluated")] == [
        f"evaluated {k}" for k in range(5)
    ]
    # four gradients of one draw, and five evaluations of four; not those of the control
    assert state["queries"].tolist() == [24]


def test_the_vote_of_a_tie_is_for_the_first_class():
    wrong = {("evaluated 1", 0), ("evaluated 1", 1)}
    assert not scripted(lambda *asked: asked in wrong)[0]["voted_wrong"].any()
    wrong |= {("evaluated 1", 2)}
    state = scripted(lambda *asked: asked in wrong)[0]
    assert state["voted_wrong"].tolist() == [[False, True, False, False, False]]


@pytest.mark.parametrize(("every", "at"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3, 4]), (9, [4])])
def test_chosen_steps_are_evaluated_and_the_last_one(every, at, monkeypatch):
    points = []

    def spy(batch, x, word, n_eval):
        points.append((word, float((x - batch.images).abs().max() * 255)))
        return answers(batch, x, word, n_eval)

    monkeypatch.setattr(loop, "_answers", spy)
    batch = Batch(
        Defence(None, None, Brightness()),
        torch.full((1, 3, 8, 8), 0.3),
        torch.tensor([0]),
        AttackNoise(0, [7]),
    )
    state = attack(n_eval=2, eval_every=every)(batch)
    moved = [round(far) for word, far in points if word.startswith("evaluated")]
    assert moved == [0, *(min(2 * step, 8) for step in at)]
    assert state["wrong"].shape == (1, 1 + len(at))


def test_an_image_is_left_alone_when_no_rule_can_change_any_more():
    state, asked = scripted(lambda step, _: step == "evaluated 2")
    assert state["wrong"].tolist() == [[0, 0, 1, 0, 0]]
    assert asked[-1] == "control 2"
    assert state["queries"].tolist() == [2 + 3 * 4]


def test_each_rule_has_its_own_image(monkeypatch):
    """Three draws are wrong at step 3, so that its vote is; one at step 1, and two at step 4."""
    wrong = {"evaluated 1": 1, "evaluated 3": 3, "evaluated 4": 2}
    points = {}

    def spy(batch, x, word, n_eval):
        points[word] = x.clone()
        return answers(batch, x, word, n_eval)

    monkeypatch.setattr(loop, "_answers", spy)
    purifier = Scripted(lambda step, draw: draw < wrong.get(step, 0))
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    defence = Defence(None, purifier, Brightness())
    batch = Batch(defence, images, torch.tensor([0]), Words(0, [7]))
    state = attack(n_eval=4, gradient="blind")(batch)
    assert torch.equal(state["x_adv"], points["evaluated 3"])
    assert torch.equal(state["x_majority"], points["evaluated 3"])
    assert torch.equal(state["x_worst"], points["evaluated 1"])
    assert not torch.equal(points["evaluated 1"], points["evaluated 3"])


@pytest.mark.parametrize("chance", [0.05, 0.5])
def test_chance_breaks_images_as_often_as_the_binomial_distribution_says(chance):
    images = torch.full((N, 3, 4, 4), 0.5)
    labels = torch.zeros(N, dtype=torch.int64)
    batch = Batch(
        Defence(None, Chancy(chance), Brightness()), images, labels, AttackNoise(0, range(N))
    )
    state = attack(n_eval=5)(batch)
    for key in ("wrong", "control_wrong"):
        broken = (state[key] > 0).any(1).float().mean().item()
        # some draw of 25; an image that is left alone after five wrong ones is broken as well
        expected = 1 - (1 - chance) ** 25
        low, high = stats.binom.interval(0.999, N, expected)
        assert low / N <= broken <= high / N
    majority = stats.binom.sf(2, 5, chance)  # three of five
    low, high = stats.binom.interval(0.999, N, 1 - (1 - majority) ** 5)
    assert low / N <= state["voted_wrong"].any(1).float().mean() <= high / N
    assert not torch.equal(state["wrong"], state["control_wrong"])


def test_apgd_moves_images_on_that_one_draw_got_wrong():
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        order = classifier(images).argsort(1)
    labels = torch.stack([order[0, 3], order[1, 0], order[2, 3]])  # the second one is wrong
    batch = Batch(Defence(None, None, classifier), images, labels, AttackNoise(0, [1, 2, 3]))
    state = apgd.build(eps="8/255", n_iter=6, n_eval=2, eval_every=3)(batch)
    assert state["wrong"][1].tolist() == [1, 0, 0, 0]  # and settled by its first evaluation
    assert state["inner.x"][0].ne(images[0]).any()
    assert apgd.build(eps="8/255", n_iter=6, n_eval=2).attack.optimise_misclassified
    assert not apgd.build(eps="8/255", n_iter=6).optimise_misclassified


def test_a_killed_attack_goes_on_with_its_evaluations():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1])
    batch = Batch(Defence(None, Chancy(0.3), Brightness()), images, labels, AttackNoise(0, [1, 2]))
    saved = {}
    whole = attack(n_eval=3)(batch, callback=lambda state, done: saved.update({done: state}))
    again = attack(n_eval=3)(batch, saved=(saved[2], 2))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_an_image_s_evaluations_do_not_depend_on_its_batch():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1])
    defence = Defence(None, Chancy(0.3), Brightness())
    batch = Batch(defence, images, labels, AttackNoise(0, [1, 2]))
    together, alone = attack(n_eval=3)(batch), attack(n_eval=3)(batch.take([1]))
    for key in together:
        assert torch.equal(together[key][1:2], alone[key])


def test_fresh_draws_of_a_fixed_seed_are_refused():
    with pytest.raises(UserError, match="n_eval asks fresh draws, and fixed: true knows one"):
        attack(n_eval=3, fixed=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_eval": 0}, "n_eval must be a whole number from 1, but is 0"),
        ({"n_eval": 3, "eval_every": 0}, "eval_every must be a whole number from 1, but is 0"),
        ({"eval_every": 2}, "give n_eval as well"),
    ],
)
def test_evaluations_that_say_nothing_are_refused(options, message):
    for build in (attack, lambda **given: apgd.build(eps="8/255", **given)):
        with pytest.raises(UserError, match=message):
            build(**options)


def test_of_several_images_that_fool_as_many_draws_fixed_autoattack_keeps_the_first(monkeypatch):
    """Whatever their losses, since it has counted draws alone (`success_by` says who it was)."""
    shares = iter([0.3, 0.3, 0.6, 0.6])
    losses = iter([0.5, 0.9, 0.1, 2.0])

    def scripted(batch, x, word, n_eval):
        if word.startswith(loop.CONTROL):
            return torch.zeros(1), torch.tensor([False]), torch.zeros(1)
        return torch.tensor([next(shares)]), torch.tensor([False]), torch.tensor([next(losses)])

    monkeypatch.setattr(loop, "_answers", scripted)
    images = torch.zeros(1, 3, 8, 8)
    fixed = autoattack.build(eps="8/255", version="rand", n_iter=1, eot_iter=1, n_eval=10)
    state = loop.unjudged(images, 4) | {"queries": torch.zeros(1, dtype=torch.int64)}
    batch, kept = Batch(Defence(None, None, Brightness()), images, torch.tensor([0]), None), []
    for k in range(4):
        state = fixed._evaluate(batch, state, images + k / 10, k, 10)
        kept.append(round(float(10 * state["x_adv"].amax())))
    assert kept == [0, 0, 2, 2]
