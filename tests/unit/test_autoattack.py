"""APGD, Square, FAB-T and AutoAttack on tiny victims; tests/parity has auto-attack's numbers."""

import io
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow import compute
from puriflow.attacks import apgd, autoattack, square
from puriflow.attacks.apgd import APGD, checkpoints, dlr, dlr_targeted
from puriflow.attacks.autoattack import AutoAttack
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Batch
from puriflow.attacks.fab import FABT
from puriflow.attacks.square import Square, side
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import AttackNoise, ImageNoise

EPS = 0.014  # the attacks succeed on some images, and not on others
INDICES = [4, 9, 2, 7]


class Noisy(nn.Module):
    """A purifier of noise alone."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x, noise):
        return x + self.scale * noise.normal_like(x)


class Coin(nn.Module):
    """A purifier whose draws spoil one image of five, whatever the image."""

    def forward(self, x, noise):
        spoilt = noise.uniform(0, 1) < 0.2
        return torch.where(spoilt[:, None, None, None], 1 - x, x)


class Counting(nn.Module):
    """A classifier that counts its queries: the images it is asked about."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.queries = inner, 0

    def forward(self, x):
        self.queries += len(x)
        return self.inner(x)


def network(classes=6):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, classes)
    net = nn.Sequential(*layers)
    net[-1].weight.data *= 4
    return net


def batch(purifier=None, net=None, dtype=torch.float64, wrong=0):
    """Four images, of growing margins; the first `wrong` are misclassified from the start."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    net = (net or network()).to(dtype).eval().requires_grad_(False)
    labels = net(images).argmax(1)
    labels[:wrong] += 1
    labels %= net(images).shape[1]
    victim = Defence(None, purifier, Counting(net))
    return Batch(victim, images, labels, AttackNoise(0, INDICES))


ATTACKS = {
    "ce": lambda: apgd.build(eps=EPS, n_iter=9),
    "dlr": lambda: apgd.build(eps=EPS, n_iter=9, loss="dlr", n_restarts=2, rho=0.5),
    "targeted": lambda: apgd.build(eps=EPS, n_iter=6, loss="dlr-targeted", n_target_classes=3),
    "L2": lambda: apgd.build(eps=0.05, norm="L2", n_iter=9),
    "eot": lambda: apgd.build(eps=EPS, n_iter=5, eot_iter=2, votes=3, gradient="identity"),
    "square": lambda: square.build(eps=EPS, n_queries=25),
    "square, votes": lambda: square.build(eps=EPS, n_queries=15, votes=3),
    "rand": lambda: autoattack.build(eps=EPS, version="rand", n_iter=4, eot_iter=2),
    "square alone": lambda: autoattack.build(eps=EPS, version="square", n_queries=25),
}
STANDARD = {
    "standard": lambda: autoattack.build(eps=EPS, n_iter=3, n_queries=12, n_target_classes=2)
}
NOISE = 0.003


def case(name):
    """The attack and a noisy victim; torchattacks' FAB knows float32 only."""
    dtype = torch.float32 if name in STANDARD else torch.float64
    return (ATTACKS | STANDARD)[name](), batch(Noisy(NOISE), dtype=dtype, wrong=1)


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_it_stays_in_the_ball_and_tries_every_image(name):
    attack, b = case(name)
    state = attack(b)
    x_adv = state["x_adv"]
    assert (attack.ball.distance(x_adv, b.images) <= attack.ball.eps + 1e-7).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x_adv[0], b.images[0])  # misclassified from the start
    moved = attack.ball.distance(x_adv, b.images) > 0
    if isinstance(attack, AutoAttack):  # which hands in the clean image where it was no success
        assert torch.equal(moved, state["success_by"] >= 0)
    else:
        assert moved[1:].all()


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_an_image_does_not_depend_on_its_batch(name):
    attack, b = case(name)
    together = attack(b)
    for i in range(4):
        alone = attack(b.take([i]))
        for key in alone.keys() & together.keys():
            precise = {"rtol": 0, "atol": 1e-6 if name in STANDARD else 1e-9}
            torch.testing.assert_close(together[key][i : i + 1], alone[key], **precise)


def killed_after_every_step(attack, b):
    """The result of a run that dies after each step and goes on from a file."""
    saved = None

    def callback(state, done):
        nonlocal saved
        file = io.BytesIO()
        torch.save({"state": state, "done": done}, file)
        saved = file.getvalue()
        raise KeyboardInterrupt

    while True:
        before = saved and torch.load(io.BytesIO(saved), weights_only=True)
        try:
            return attack(b, callback, before and (before["state"], before["done"]))
        except KeyboardInterrupt:
            continue


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_a_killed_attack_goes_on_as_if_nothing_had_happened(name):
    attack, b = case(name)
    whole, pieces = attack(b), killed_after_every_step(*case(name))
    assert whole.keys() == pieces.keys()
    for key, value in whole.items():
        assert torch.equal(pieces[key], value), key


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_every_query_is_counted(name):
    attack, b = case(name)
    for i in (3, 2, 1, 0):
        b.victim.classifier.queries = 0
        state = attack(b.take([i]))
        assert state["queries"].tolist() == [b.victim.classifier.queries]
    assert state["queries"].tolist() == [1 + 3 * (attack.votes > 1)]
    assert state["success"].all()


def test_the_published_numbers_of_queries():
    b = batch(net=network(10), wrong=1)
    tiny = 1e-4  # no attack succeeds
    runs = [
        (APGD(Ball(tiny), n_iter=5, eot_iter=3), 1 + 6 * 3),
        (APGD(Ball(tiny), "dlr", n_iter=5, n_restarts=2), 1 + 2 * 6),
        (APGD(Ball(tiny), "dlr-targeted", n_iter=5), 1 + 9 * 6),
        (Square(Ball(tiny), n_queries=20), 1 + 21 + 1),
    ]
    for attack, expected in runs:
        state = attack(b)
        assert state["queries"].tolist() == [1] + [expected] * 3
        assert state["success"].tolist() == [True] + [False] * 3


class Recording(AttackNoise):
    """Noise that remembers which of the victim's draws were used."""

    def __init__(self, seed, indices, used):
        super().__init__(seed, indices)
        self.used = used

    def take(self, positions):
        return Recording(self.seed, [self.indices[i] for i in positions], self.used)

    def victim(self, step, draws=(0,)):
        self.used.extend((step, draw, index) for draw in draws for index in self.indices)
        return super().victim(step, draws)


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_no_two_passes_share_their_noise(name):
    attack, b = case(name)
    used = []
    state = attack(Batch(b.victim, b.images, b.labels, Recording(0, INDICES, used)))
    assert len(used) == len(set(used)) == state["queries"].sum()


def test_global_randomness_is_left_alone():
    attack, b = case("standard")
    before = torch.random.get_rng_state()
    attack(b)
    assert torch.equal(before, torch.random.get_rng_state())


# APGD


def test_checkpoints_are_auto_attacks():
    assert list(checkpoints(100).items()) == [
        *((22, 22), (41, 19), (57, 16), (70, 13), (80, 10), (87, 7), (93, 6), (99, 6)),
    ]


def test_a_checkpoint_by_hand():
    """A window of four: what it does to the step size of an image, and where it goes back to."""
    rising, falling = [0.0, 1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0, 0.0]
    rows = [  # the losses, the best at the last checkpoint, halved then, and whether to halve now
        (rising, 1.0, False, False),
        (falling, 1.0, False, True),
        (falling, 1.0, True, True),
        (rising, 4.0, False, True),
        (rising, 4.0, True, False),
        ([0.0, 1.0, 2.0, 3.0, 2.0], 1.0, False, True),  # three rises of four are too few
    ]
    losses, checked, reduced, halve = zip(*rows, strict=True)
    trace = torch.zeros(len(rows), 21)
    trace[:, 4:9] = torch.tensor(losses)
    x, best = torch.zeros(len(rows), 3, 1, 1), torch.ones(len(rows), 3, 1, 1)
    state = {
        "loss_steps": trace,
        "loss_best": torch.full((len(rows),), 4.0),
        "loss_best_last_check": torch.tensor(checked),
        "reduced_last_check": torch.tensor(reduced),
        "step_size": torch.full((len(rows),), 0.5),
        **{"x": x, "x_best": best, "grad": x + 2, "grad_best": best + 2},
    }
    attack = APGD(Ball(EPS), n_iter=20)
    attack.windows = {8: 4}
    after = attack._check(state, 8)
    halve = torch.tensor(halve)
    assert torch.equal(after["reduced_last_check"], halve)
    assert torch.equal(after["step_size"], torch.where(halve, 0.25, 0.5))
    assert torch.equal(after["loss_best_last_check"], state["loss_best"])
    assert torch.equal(after["x"][:, 0, 0, 0], halve.float())
    assert torch.equal(after["grad"][:, 0, 0, 0], halve.float() + 2)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_every_run_starts_afresh_at_the_border_of_the_ball(norm):
    b, states = batch(), []
    attack = APGD(Ball(1e-4, norm), n_iter=5, n_restarts=2)
    attack(b, callback=lambda state, _: states.append(state))
    for run, state in enumerate((states[0], states[6])):
        noise = ImageNoise(0, f"attack start apgd-ce {run}", INDICES)
        if norm == "Linf":
            drawn = noise.uniform_like(b.images, -1, 1)
            drawn /= drawn.abs().amax((1, 2, 3), keepdim=True)
        else:
            drawn = noise.normal_like(b.images)
            drawn /= drawn.square().sum((1, 2, 3), keepdim=True).sqrt()
        torch.testing.assert_close(state["x"], (b.images + 1e-4 * drawn).clamp(0, 1))
        assert torch.equal(state["loss_best"], state["loss_steps"][:, 0])
        assert state["reduced_last_check"].all()
        assert (state["step_size"] == 2e-4).all()


def test_a_misclassified_point_is_not_given_up_for_a_higher_loss():
    points, states, b = [], [], batch()

    class Told(APGD):
        def loss_and_grad(self, batch, x, number):
            points.append(x)
            loss, wrong = [(1.0, False), (2.0, True), (3.0, False), (0.5, True)][number]
            logits = F.one_hot(batch.labels + wrong, 9).double()
            return torch.full((4,), loss).double(), (-torch.ones_like(x)) ** number, logits

    Told(Ball(EPS), n_iter=3)(b, callback=lambda state, _: states.append(state))
    assert not torch.equal(points[1], points[2])
    for state, point in zip(states, (0, 1, 1, 3), strict=True):
        assert torch.equal(state["x_adv"], points[point])


def test_the_losses_by_hand():
    logits, labels = torch.tensor([[1.0, 4.0, 2.0, 0.0]]).expand(2, 4), torch.tensor([1, 0])
    assert dlr(logits, labels).tolist() == pytest.approx([-(4 - 2) / (4 - 1), (4 - 1) / (4 - 1)])
    target_class = torch.tensor([3, 2])
    expected = [-(4 - 0) / (4 - (1 + 0) / 2), (2 - 1) / (4 - (1 + 0) / 2)]
    assert dlr_targeted(logits, labels, target_class).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ce", "L2", "dlr", "targeted"])
def test_it_raises_the_loss_and_fools_more_than_its_start(name):
    attack, b = ATTACKS[name](), batch()
    states = []
    state = attack(b, callback=lambda s, _: states.append(s))
    assert (state["loss_best"] > state["loss_steps"][:, 0]).all()
    assert states[0]["misclassified"].sum() < state["misclassified"].sum()
    answers = b.logits(state["x_adv"], "").argmax(1)
    assert torch.equal(answers != b.labels, state["success"])


def test_without_success_the_point_of_highest_loss_is_handed_in():
    b = batch()
    state = APGD(Ball(0.0005), n_iter=12)(b)
    assert not state["success"].any()
    assert torch.equal(state["x_adv"], state["x_best"])
    loss = F.cross_entropy(b.logits(state["x_adv"], ""), b.labels, reduction="none")
    torch.testing.assert_close(loss, state["loss_steps"].amax(1))


def test_the_gradient_is_the_mean_over_draws_and_the_answer_that_of_the_last():
    b = batch(Noisy(0.3))
    attack = APGD(Ball(EPS), eot_iter=3)
    loss, grad, logits = attack.loss_and_grad(b, b.images, 7)
    grads = []
    for draw in range(3):
        x = b.images.clone().requires_grad_()
        answer = b.logits(x, "apgd-ce 7", [draw])
        grads.append(torch.autograd.grad(F.cross_entropy(answer, b.labels, reduction="sum"), x)[0])
    torch.testing.assert_close(grad, sum(grads) / 3)
    torch.testing.assert_close(logits, answer)
    torch.testing.assert_close(loss, F.cross_entropy(answer, b.labels, reduction="none"))


def test_with_fixed_draws_it_fools_the_very_defence_that_is_used():
    attack, b = APGD(Ball(EPS), n_iter=9, fixed=True), batch(Noisy(0.1))
    b = Batch(b.victim, b.images, b.labels, AttackNoise(0, INDICES, fixed=attack.fixed))
    state = attack(b)
    assert state["success"].any()
    answers = b.victim(state["x_adv"], INDICES).argmax(1)
    assert torch.equal(answers != b.labels, state["success"])


def test_targets_are_the_likeliest_other_classes_of_the_clean_image():
    b = batch(net=network(5), wrong=1)
    state = APGD(Ball(EPS), "dlr-targeted", n_target_classes=9).begin(b)
    logits = b.logits(b.images, "")
    assert state["target_class"].shape == (4, 4)  # fewer classes than targets: all but the label
    for i in range(4):
        order = [c for c in logits[i].argsort(descending=True).tolist() if c != b.labels[i]]
        assert state["target_class"][i].tolist() == order


def test_targets_beyond_the_classes_ask_nothing():
    b = batch(net=network(4))
    few, many = (APGD(Ball(1e-4), "dlr-targeted", n_iter=2, n_target_classes=n)(b) for n in (3, 9))
    assert torch.equal(few["queries"], many["queries"])
    assert torch.equal(few["x_adv"], many["x_adv"])


class Watched(APGD):
    """A loss of its own, that sees every image to the end."""

    optimise_misclassified = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def loss_and_grad(self, batch, x, number):
        self.seen.append(len(x))
        return super().loss_and_grad(batch, x, number)


def test_a_subclass_may_optimise_what_is_misclassified():
    b = batch(wrong=1)
    attack, states = Watched(Ball(EPS), n_iter=9, n_restarts=2), []
    state = attack(b, callback=lambda s, _: states.append(s))
    assert attack.seen == [4] * 20
    assert not any(s["success"].any() for s in states[:-1])
    assert torch.equal(state["success"], state["misclassified"])
    assert state["success"][0]
    assert not torch.equal(state["x_adv"][0], b.images[0])


# Square


def test_windows_shrink_by_auto_attacks_schedule():
    edges = [0, 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    sides = [200, 142, 100, 71, 50, 35, 25, 18, 13, 9]  # the square roots of 0.8 / 2^k of 224^2
    assert [side(edge + (edge > 0), 224 * 224, 0.8) for edge in edges] == sides
    assert [side(edge, 224 * 224, 0.8) for edge in edges[1:]] == sides[:-1]
    assert side(8001, 32 * 32, 0.8) == 1


def grey():
    """Images far from 0 and 1."""
    b = batch()
    images = torch.full_like(b.images, 0.5)
    labels = b.logits(images, "").argmax(1)
    return Batch(b.victim, images, labels, b.noise)


def test_it_starts_with_stripes():
    b = grey()
    stripes = (Square(Ball(EPS)).begin(b)["x_adv"] - b.images) / EPS
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    torch.testing.assert_close(stripes.abs(), torch.ones_like(stripes))
    assert (stripes != stripes[:1]).any()


def test_every_query_shifts_one_window_of_each_image():
    b, attack = grey(), Square(Ball(EPS))
    touched = torch.zeros(8, 8, dtype=torch.bool)
    for query in (10, 11, *range(60, 100)):
        change = attack._shift_window(b, b.images, query + 1) - b.images
        moved = change != 0
        torch.testing.assert_close(change[moved].abs(), torch.full_like(change[moved], EPS))
        size = side(query, 64, 0.8)
        assert moved.flatten(2).sum(2).unique().tolist() == [size**2]
        assert moved.any(1).any(2).sum(1).tolist() == [size] * 4
        assert moved.any(1).any(1).sum(1).tolist() == [size] * 4
        touched |= moved.any(0).any(0)
    assert len({tuple(m.flatten().tolist()) for m in moved}) > 1
    # as in auto-attack, the last place is never drawn
    assert touched[:7, :7].all()
    assert not touched[7].any()
    assert not touched[:, 7].any()


def test_only_what_lowers_the_margin_is_kept():
    b, states = batch(), []
    square.build(eps=EPS, n_queries=60)(b, callback=lambda state, _: states.append(state))
    for earlier, later in itertools.pairwise(states):
        assert (later["margin"] <= earlier["margin"]).all()
        same = (later["x_adv"] == earlier["x_adv"]).flatten(1).all(1)
        assert torch.equal(later["margin"] == earlier["margin"], same)
    logits = b.logits(states[-1]["x_adv"], "")
    others = logits.scatter(1, b.labels[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, b.labels[:, None])[:, 0] - others
    torch.testing.assert_close(states[-1]["margin"], margin)
    assert (states[-1]["margin"] < states[0]["margin"]).sum() > 0


def test_a_margin_that_was_luck_is_forgotten():
    state = square.build(eps=1e-4, n_queries=40, votes=25)(batch(Coin()))
    assert (state["margin"] > 0).all()


def test_square_needs_no_gradient():
    class Rounded(nn.Module):
        def forward(self, x):
            return (x * 255).round() / 255

    b = batch(net=nn.Sequential(Rounded(), network()))
    state = square.build(eps=EPS, n_queries=200)(b)
    assert state["success"].sum() > b.logits(b.images, "").argmax(1).ne(b.labels).sum()
    assert torch.equal(b.logits(state["x_adv"], "").argmax(1) != b.labels, state["success"])


# FAB-T


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_fab_keeps_what_is_in_the_ball_and_misclassified(norm):
    b = batch(dtype=torch.float32)
    lengths = []
    for eps in (1.0, 1e-4):
        attack = FABT(Ball(eps, norm), n_iter=8, n_target_classes=5)
        state = attack(b)
        answers = b.logits(state["x_adv"], "").argmax(1)
        assert torch.equal(answers != b.labels, state["success"])
        lengths.append(attack.ball.distance(state["x_adv"], b.images))
    assert (lengths[0] > 1e-4).all()
    assert (lengths[1] == 0).all()


def test_fab_takes_images_of_any_layout():
    """Image files and full float32 on a GPU have the channels of a pixel side by side."""
    b, attack = batch(dtype=torch.float32), FABT(Ball(1.0), n_iter=2, n_target_classes=1)
    side_by_side = b.images.to(memory_format=torch.channels_last)
    other = attack(Batch(b.victim, side_by_side, b.labels, b.noise))
    torch.testing.assert_close(attack(b)["x_adv"], other["x_adv"])


def test_where_fab_finds_nothing_the_clean_image_is_asked():
    b, asked = batch(dtype=torch.float32), []

    class Listening(FABT):
        def judge(self, batch, x, step):
            asked.append(torch.equal(x, batch.images))
            return super().judge(batch, x, step)

    class Flat(nn.Module):  # without a border
        def forward(self, x):
            return (
                F.one_hot(torch.zeros(len(x), dtype=torch.int64), 3)
                + 0 * x.mean((1, 2, 3))[:, None]
            )

    b = Batch(batch(net=Flat()).victim, b.images, 0 * b.labels, b.noise)
    assert not Listening(Ball(0.1), n_iter=1, n_target_classes=2)(b)["success"].any()
    assert asked == [True] * (1 + 4 * 2)  # all at first, and each image after each class


def test_fab_takes_the_classes_there_are():
    b = batch(net=network(3), dtype=torch.float32)
    few, many = (FABT(Ball(1e-4), n_iter=2, n_target_classes=n)(b) for n in (2, 9))
    assert torch.equal(few["queries"], many["queries"])
    # the clean image, and for each class: two passes, and two for every iteration
    assert few["queries"].tolist() == [1 + 2 * (2 + 2 * 2)] * 4


class Linear(nn.Module):
    """Class 1 is always a little below class 0; class 2 is reached by making the image lighter."""

    def forward(self, x):
        light = 10 * (x.mean((1, 2, 3)) - 0.55)
        return torch.stack([0 * light, 0 * light - 0.1, light], 1)


def test_fab_goes_towards_one_class_after_the_other():
    b = grey()
    b = Batch(batch(net=Linear()).victim, b.images.float(), 0 * b.labels, b.noise)
    attack = FABT(Ball(0.1), n_iter=3, n_target_classes=2)
    first = attack.step(b, attack.begin(b), 0)
    assert not first["success"].any()
    b.victim.classifier.queries = 0
    second = attack.step(b, first, 1)
    assert second["success"].all()
    assert (second["queries"] - first["queries"]).sum() == b.victim.classifier.queries
    # to the boundary, which it oversteps by a little
    expected = torch.full_like(b.images, 0.05)
    torch.testing.assert_close(second["x_adv"] - b.images, expected, rtol=0.02, atol=0)


# votes


class Scripted:
    """A batch of two images that answers 0, 0, 1, 1, 1, ... to the draws of a vote."""

    labels = torch.tensor([0, 0])
    images = torch.zeros(2, 3, 1, 1)

    def take(self, positions):
        part = Scripted()
        part.labels, part.images = self.labels[positions], self.images[positions]
        return part

    def logits(self, x, step, draws, gradient):
        assert step == "here votes"
        answers = [[1.0, 0.0] if draw < 2 else [0.0, 1.0] for draw in draws]
        return torch.tensor(answers).repeat_interleave(len(x), dim=0)


@pytest.mark.parametrize("pixels", [1, 2, 100])  # that many draws at once
@pytest.mark.parametrize(("votes", "stands"), [(1, True), (3, False), (4, False), (5, True)])
def test_more_than_half_of_the_votes_must_be_wrong(votes, stands, pixels, monkeypatch):
    monkeypatch.setattr(compute, "FOLDED", pixels)
    doubtful = torch.tensor([False, True])
    attack = APGD(Ball(EPS), votes=votes)
    got, queries = attack.confirm(Scripted(), Scripted.images, doubtful, "here")
    assert got.tolist() == [False, stands]
    assert queries.tolist() == [0, votes if votes > 1 else 0]


def test_chance_is_believed_only_without_votes():
    """A victim that is wrong once in five, at any image, is not fooled by asking it again."""
    b = batch(Coin())
    assert apgd.build(eps=1e-4, n_iter=40)(b)["success"].all()
    assert not apgd.build(eps=1e-4, n_iter=40, votes=25)(b)["success"].any()
    believed = square.build(eps=1e-4, n_queries=40)(b)
    assert (believed["margin"] <= 0).sum() > believed["success"].sum()  # some lose it again
    assert not square.build(eps=1e-4, n_queries=40, votes=25)(b)["success"].any()


# AutoAttack


def each_alone(attack, b):
    return torch.stack([inner(b)["success"] for inner in attack.attacks])


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_the_verdict_is_the_union_of_the_attacks(version):
    # logits so steep that the cross-entropy has no gradient
    b = batch(net=nn.Sequential(network(), Steep()), dtype=torch.float32, wrong=1)
    attack = autoattack.build(
        eps=EPS, version=version, n_iter=8, n_queries=30, n_target_classes=3, eot_iter=1
    )
    state, alone = attack(b), each_alone(attack, b)
    assert torch.equal(state["success"], alone.any(0))
    assert not state["success"].all()
    first = torch.where(alone.any(0), alone.int().argmax(0), -1)
    first[0] = -1  # no attack was needed
    assert torch.equal(state["success_by"], first)
    assert set(first.tolist()) == {-1, 1}  # the cross-entropy finds nothing
    answers = b.logits(state["x_adv"], "").argmax(1)
    assert torch.equal(answers != b.labels, state["success"])


class Steep(nn.Module):
    def forward(self, logits):
        return 1e4 * logits


class Stub:
    """An attack that calls some images a success, and changes them in some way."""

    n_steps = 1

    def __init__(self, name, calls, change):
        self.name, self.calls, self.change, self.began = name, calls, change, None

    def begin(self, batch):
        self.began = batch.noise.indices
        return {
            "x_adv": self.change(batch.images),
            "queries": torch.full((len(self.began),), 5),
            "success": torch.tensor([i in self.calls for i in self.began]),
        }

    def step(self, batch, state, number):
        return state


def test_an_attack_gets_what_is_left_and_a_fresh_pass_decides():
    b = batch(wrong=1)
    assert b.logits(1 - b.images, "").argmax(1)[1] != b.labels[1]
    liar = Stub("liar", calls={2}, change=lambda x: x)
    finder = Stub("finder", calls={9}, change=lambda x: torch.cat([1 - x[:1], x[1:]]))
    last = Stub("last", calls=set(), change=lambda x: x)
    state = AutoAttack(Ball(1.0), [liar, finder, last])(b)
    assert liar.began == finder.began == INDICES[1:]
    assert last.began == INDICES[2:]
    assert state["success"].tolist() == [True, True, False, False]
    assert state["success_by"].tolist() == [-1, 1, -1, -1]
    assert state["queries"].tolist() == [1, 1 + 2 * 6, 1 + 3 * 6, 1 + 3 * 6]
    assert torch.equal(state["x_adv"][1], 1 - b.images[1])


def test_where_an_attack_is_no_success_the_clean_image_is_judged():
    """Even if its best try is misclassified: auto-attack gets the clean image back then."""
    b = batch()
    assert (b.logits(1 - b.images, "").argmax(1) != b.labels)[1:].all()
    first = Stub("first", calls={9}, change=lambda x: 1 - x)
    state = AutoAttack(Ball(1.0), [first])(b)
    assert state["success"].tolist() == [False, True, False, False]
    assert torch.equal(state["x_adv"][1], 1 - b.images[1])
    assert torch.equal(state["x_adv"][[0, 2, 3]], b.images[[0, 2, 3]])


class Told(nn.Module):
    """A classifier that is wrong at the passes of these numbers, whatever the image."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.passes, self.seen = wrong, 0, []

    def forward(self, x):
        answer = 1 if self.passes in self.wrong else 0
        self.passes += 1
        self.seen.append(x)
        return F.one_hot(torch.full((len(x),), answer), 3).to(x.dtype)


# The passes of Square alone with two queries: clean, clean again by Square, stripes, the queries,
# the best image again; and at the end what Square hands in.
@pytest.mark.parametrize(
    ("wrong", "broken", "passes", "adversarial"),
    [
        ([], False, 7, False),
        ([0], True, 1, False),  # wrong without an attack
        ([1], False, 3, False),  # Square leaves it alone, and the clean image is judged
        ([1, 2], True, 3, False),
        ([3], False, 6, False),  # no second query after a hit
        ([3, 4], False, 6, False),  # the hit is wrong again, but not at the end
        ([3, 4, 5], True, 6, True),
        ([3, 5], True, 6, False),  # it is not: the clean image is judged, which is wrong by chance
        ([5, 6], True, 7, True),  # no hit, but the best image is wrong when it is asked again
        ([6], True, 7, False),
    ],
)
def test_a_hit_of_square_must_be_wrong_again_twice(wrong, broken, passes, adversarial):
    b = batch().take([0])
    victim = Told(wrong)
    b = Batch(Defence(None, None, victim), b.images, 0 * b.labels, b.noise)
    state = autoattack.build(eps=EPS, version="square", n_queries=2)(b)
    assert state["success"].tolist() == [broken]
    assert state["clean_success"].tolist() == [0 in wrong]
    assert state["queries"].tolist() == [victim.passes] == [passes]
    assert torch.equal(state["x_adv"], b.images) != adversarial
    judged_clean = torch.equal(victim.seen[-1], b.images)
    assert judged_clean == (not adversarial and wrong != [3, 4])


def test_an_attack_that_is_done_takes_no_more_steps():
    class Done(Stub):
        n_steps = 3

        def step(self, batch, state, number):
            raise AssertionError

    b = batch()
    done = Done("done", calls=set(INDICES), change=lambda x: x)
    assert not AutoAttack(Ball(EPS), [done])(b)["success"].any()


def test_rand_beats_one_blind_step():
    b = batch(Noisy(0.03))

    def wrong(x):
        logits = b.logits(x, "test", range(60)).unflatten(0, (60, -1))
        return float((logits.argmax(2) != b.labels).double().mean())

    x = b.images.clone().requires_grad_()
    loss = F.cross_entropy(b.victim.classifier(x), b.labels, reduction="sum")
    blind = (x + EPS * torch.autograd.grad(loss, x)[0].sign()).detach().clamp(0, 1)
    attacked = autoattack.build(eps=EPS, version="rand", n_iter=15, eot_iter=5)(b)["x_adv"]
    assert wrong(attacked) > wrong(blind) > wrong(b.images)


def test_the_defaults_are_auto_attacks():
    standard = autoattack.build(eps="8/255")
    assert [p.name for p in standard.attacks] == ["apgd-ce", "apgd-dlr-targeted", "fab-t", "square"]
    assert [p.n_steps for p in standard.attacks] == [101, 9 * 101, 9, 5002]
    alone = autoattack.build(eps="8/255", version="square")
    assert [(p.name, p.n_queries) for p in alone.attacks] == [("square", 5000)]
    rand = autoattack.build(eps="8/255", version="rand")
    assert [(p.name, p.n_steps, p.eot_iter) for p in rand.attacks] == [
        ("apgd-ce", 101, 20),
        ("apgd-dlr", 101, 20),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: apgd.build(eps=EPS, loss="drl"), "unknown loss 'drl': did you mean 'dlr'"),
        (lambda: apgd.build(eps=EPS, norm="l2"), "unknown norm 'l2'"),
        (lambda: apgd.build(eps=EPS, gradient="ful"), "did you mean 'full'"),
        # a verdict of the classifier alone would be taken for the defence's
        (lambda: apgd.build(eps=EPS, gradient="blind"), "unknown gradient 'blind'"),
        (lambda: square.build(eps=EPS, gradient="blind"), "unknown gradient 'blind'"),
        (lambda: autoattack.build(eps=EPS, gradient="blind"), "unknown gradient 'blind'"),
        (lambda: apgd.build(eps=8), r"\(0, 1\]"),
        (lambda: square.build(eps=EPS, norm="L2"), "square is for the norm Linf"),
        (lambda: autoattack.build(eps=EPS, norm="L2"), "for L2 there is rand"),
        (
            lambda: autoattack.build(eps=EPS)(batch(net=network(3))),
            "apgd-dlr-targeted needs 4 or more classes, but the victim has 3",
        ),
        (lambda: apgd.build(eps=EPS, loss="dlr")(batch(net=network(2))), "needs 3 or more"),
    ],
)
def test_what_is_impossible_is_said(make, message):
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
