"""APGD, Square, FAB-T and AutoAttack on tiny victims; tests/parity has auto-attack's numbers."""

import io
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.attacks import apgd, autoattack, square
from puriflow.attacks.apgd import APGD, checkpoints, dlr, dlr_targeted
from puriflow.attacks.attack import Target
from puriflow.attacks.autoattack import AutoAttack
from puriflow.attacks.ball import Ball
from puriflow.attacks.fab import FABT
from puriflow.attacks.square import Square, side
from puriflow.attacks.votes import confirmed
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.randomness import Draws, ImageNoise

EPS = 0.014  # some images break, and some do not
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
    """A classifier that counts the images it is asked about."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, x):
        self.asked += len(x)
        return self.inner(x)


def network(classes=6):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, classes)
    net = nn.Sequential(*layers)
    net[-1].weight.data *= 4
    return net


def target(purifier=None, net=None, dtype=torch.float64, wrong=0):
    """Four images, of growing margins; the first `wrong` are misclassified from the start."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    net = (net or network()).to(dtype).eval().requires_grad_(False)
    labels = net(images).argmax(1)
    labels[:wrong] += 1
    labels %= net(images).shape[1]
    return Target(Defence(None, purifier, Counting(net)), images, labels, Draws(0, INDICES))


ATTACKS = {
    "ce": lambda: apgd.build(eps=EPS, steps=9),
    "dlr": lambda: apgd.build(eps=EPS, steps=9, loss="dlr", restarts=2, rho=0.5),
    "targeted": lambda: apgd.build(eps=EPS, steps=6, loss="dlr-targeted", targets=3),
    "L2": lambda: apgd.build(eps=0.05, norm="L2", steps=9),
    "eot": lambda: apgd.build(eps=EPS, steps=5, draws=2, votes=3, gradient="identity"),
    "square": lambda: square.build(eps=EPS, queries=25),
    "square, votes": lambda: square.build(eps=EPS, queries=15, votes=3),
    "rand": lambda: autoattack.build(eps=EPS, version="rand", steps=4, draws=2),
}
STANDARD = {"standard": lambda: autoattack.build(eps=EPS, steps=3, queries=12, targets=2)}
NOISE = 0.003


def case(name):
    """The attack and a noisy victim; torchattacks' FAB knows float32 only."""
    dtype = torch.float32 if name in STANDARD else torch.float64
    return (ATTACKS | STANDARD)[name](), target(Noisy(NOISE), dtype=dtype, wrong=1)


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_it_stays_in_the_ball_and_tries_every_image(name):
    attack, t = case(name)
    found = attack(t)["found"]
    assert (attack.ball.distance(found, t.images) <= attack.ball.eps + 1e-7).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found[0], t.images[0])  # misclassified from the start
    assert (attack.ball.distance(found, t.images)[1:] > 0).all()


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_an_image_does_not_depend_on_its_batch(name):
    attack, t = case(name)
    together = attack(t)
    for i in range(4):
        alone = attack(t.take([i]))
        for key in alone.keys() & together.keys():
            precise = {"rtol": 0, "atol": 1e-6 if name in STANDARD else 1e-9}
            torch.testing.assert_close(together[key][i : i + 1], alone[key], **precise)


def killed_after_every_step(attack, t):
    """The result of a run that dies after each step and goes on from a file."""
    kept = None

    def keep(state, done):
        nonlocal kept
        file = io.BytesIO()
        torch.save({"state": state, "done": done}, file)
        kept = file.getvalue()
        raise KeyboardInterrupt

    while True:
        before = kept and torch.load(io.BytesIO(kept), weights_only=True)
        try:
            return attack(t, keep, before and (before["state"], before["done"]))
        except KeyboardInterrupt:
            continue


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_a_killed_attack_goes_on_as_if_nothing_had_happened(name):
    attack, t = case(name)
    whole, pieces = attack(t), killed_after_every_step(*case(name))
    assert whole.keys() == pieces.keys()
    for key, value in whole.items():
        assert torch.equal(pieces[key], value), key


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_every_query_is_counted(name):
    attack, t = case(name)
    for i in (3, 2, 1, 0):
        t.defence.classifier.asked = 0
        state = attack(t.take([i]))
        assert state["queries"].tolist() == [t.defence.classifier.asked]
    assert state["queries"].tolist() == [1 + 3 * (attack.votes > 1)]
    assert state["broken"].all()


def test_the_published_numbers_of_queries():
    t = target(net=network(10), wrong=1)
    tiny = 1e-4  # nothing breaks
    runs = {
        APGD(Ball(tiny), iterations=5, draws=3): 1 + 6 * 3,
        APGD(Ball(tiny), "dlr", iterations=5, restarts=2): 1 + 2 * 6,
        APGD(Ball(tiny), "dlr-targeted", iterations=5): 1 + 9 * 6,
        Square(Ball(tiny), queries=20): 1 + 21,
    }
    for attack, expected in runs.items():
        state = attack(t)
        assert state["queries"].tolist() == [1] + [expected] * 3
        assert state["broken"].tolist() == [True] + [False] * 3


class Recording(Draws):
    """Draws that remember which of the victim's were used."""

    def __init__(self, seed, indices, used):
        super().__init__(seed, indices)
        self.used = used

    def take(self, positions):
        return Recording(self.seed, [self.indices[i] for i in positions], self.used)

    def defence(self, step, draw):
        self.used.extend((step, draw, index) for index in self.indices)
        return super().defence(step, draw)


@pytest.mark.parametrize("name", [*ATTACKS, *STANDARD])
def test_no_two_passes_share_their_noise(name):
    attack, t = case(name)
    used = []
    state = attack(Target(t.defence, t.images, t.labels, Recording(0, INDICES, used)))
    assert len(used) == len(set(used)) == state["queries"].sum()


def test_global_randomness_is_left_alone():
    attack, t = case("standard")
    before = torch.random.get_rng_state()
    attack(t)
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
        "loss_trace": trace,
        "loss_best": torch.full((len(rows),), 4.0),
        "loss_checked": torch.tensor(checked),
        "reduced": torch.tensor(reduced),
        "length": torch.full((len(rows),), 0.5),
        **{"x": x, "x_best": best, "gradient": x + 2, "gradient_best": best + 2},
    }
    attack = APGD(Ball(EPS), iterations=20)
    attack.windows = {8: 4}
    after = attack._checked(state, 8)
    halve = torch.tensor(halve)
    assert torch.equal(after["reduced"], halve)
    assert torch.equal(after["length"], torch.where(halve, 0.25, 0.5))
    assert torch.equal(after["loss_checked"], state["loss_best"])
    assert torch.equal(after["x"][:, 0, 0, 0], halve.float())
    assert torch.equal(after["gradient"][:, 0, 0, 0], halve.float() + 2)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_every_run_starts_afresh_at_the_border_of_the_ball(norm):
    t, states = target(), []
    attack = APGD(Ball(1e-4, norm), iterations=5, restarts=2)
    attack(t, keep=lambda state, _: states.append(state))
    for run, state in enumerate((states[0], states[6])):
        noise = ImageNoise(0, f"attack start apgd-ce {run}", INDICES)
        if norm == "Linf":
            drawn = noise.uniform_like(t.images, -1, 1)
            drawn /= drawn.abs().amax((1, 2, 3), keepdim=True)
        else:
            drawn = noise.normal_like(t.images)
            drawn /= drawn.square().sum((1, 2, 3), keepdim=True).sqrt()
        torch.testing.assert_close(state["x"], (t.images + 1e-4 * drawn).clamp(0, 1))
        assert torch.equal(state["loss_best"], state["loss_trace"][:, 0])
        assert state["reduced"].all()
        assert (state["length"] == 2e-4).all()


def test_a_misclassified_point_is_not_given_up_for_a_higher_loss():
    points, states, t = [], [], target()

    class Told(APGD):
        def look(self, target, x, number):
            points.append(x)
            loss, wrong = [(1.0, False), (2.0, True), (3.0, False), (0.5, True)][number]
            logits = F.one_hot(target.labels + wrong, 9).double()
            return torch.full((4,), loss).double(), (-torch.ones_like(x)) ** number, logits

    Told(Ball(EPS), iterations=3)(t, keep=lambda state, _: states.append(state))
    assert not torch.equal(points[1], points[2])
    for state, point in zip(states, (0, 1, 1, 3), strict=True):
        assert torch.equal(state["found"], points[point])


def test_the_losses_by_hand():
    logits, labels = torch.tensor([[1.0, 4.0, 2.0, 0.0]]).expand(2, 4), torch.tensor([1, 0])
    assert dlr(logits, labels).tolist() == pytest.approx([-(4 - 2) / (4 - 1), (4 - 1) / (4 - 1)])
    goals = torch.tensor([3, 2])
    expected = [-(4 - 0) / (4 - (1 + 0) / 2), (2 - 1) / (4 - (1 + 0) / 2)]
    assert dlr_targeted(logits, labels, goals).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ce", "L2", "dlr", "targeted"])
def test_it_raises_the_loss_and_breaks_more_than_its_start(name):
    attack, t = ATTACKS[name](), target()
    states = []
    state = attack(t, keep=lambda s, _: states.append(s))
    assert (state["loss_best"] > state["loss_trace"][:, 0]).all()
    assert states[0]["wrong"].sum() < state["wrong"].sum()
    answers = t.logits(state["found"], "", 0).argmax(1)
    assert torch.equal(answers != t.labels, state["broken"])


def test_where_nothing_breaks_the_point_of_highest_loss_is_kept():
    t = target()
    state = APGD(Ball(0.0005), iterations=12)(t)
    assert not state["broken"].any()
    assert torch.equal(state["found"], state["x_best"])
    loss = F.cross_entropy(t.logits(state["found"], "", 0), t.labels, reduction="none")
    torch.testing.assert_close(loss, state["loss_trace"].amax(1))


def test_the_gradient_is_the_mean_over_draws_and_the_answer_that_of_the_last():
    t = target(Noisy(0.3))
    attack = APGD(Ball(EPS), draws=3)
    loss, gradient, logits = attack.look(t, t.images, 7)
    each = []
    for draw in range(3):
        x = t.images.clone().requires_grad_()
        answer = t.logits(x, "apgd-ce 7", draw)
        each.append(torch.autograd.grad(F.cross_entropy(answer, t.labels, reduction="sum"), x)[0])
    torch.testing.assert_close(gradient, sum(each) / 3)
    torch.testing.assert_close(logits, answer)
    torch.testing.assert_close(loss, F.cross_entropy(answer, t.labels, reduction="none"))


def test_with_fixed_draws_it_breaks_the_very_defence_that_is_used():
    attack, t = APGD(Ball(EPS), iterations=9, fixed=True), target(Noisy(0.1))
    t = Target(t.defence, t.images, t.labels, Draws(0, INDICES, fixed=attack.fixed))
    state = attack(t)
    assert state["broken"].any()
    answers = t.defence(state["found"], INDICES).argmax(1)
    assert torch.equal(answers != t.labels, state["broken"])


def test_targets_are_the_likeliest_other_classes_of_the_clean_image():
    t = target(net=network(5), wrong=1)
    state = APGD(Ball(EPS), "dlr-targeted", targets=9).begin(t)
    logits = t.logits(t.images, "", 0)
    assert state["goals"].shape == (4, 4)  # fewer classes than targets: all but the label
    for i in range(4):
        order = [c for c in logits[i].argsort(descending=True).tolist() if c != t.labels[i]]
        assert state["goals"][i].tolist() == order


def test_targets_beyond_the_classes_ask_nothing():
    t = target(net=network(4))
    few, many = (APGD(Ball(1e-4), "dlr-targeted", iterations=2, targets=n)(t) for n in (3, 9))
    assert torch.equal(few["queries"], many["queries"])
    assert torch.equal(few["found"], many["found"])


class Watched(APGD):
    """A look of its own, that sees every image to the end."""

    everyone = True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def look(self, target, x, number):
        self.seen.append(len(x))
        return super().look(target, x, number)


def test_a_subclass_may_go_on_with_what_is_misclassified():
    t = target(wrong=1)
    attack, states = Watched(Ball(EPS), iterations=9, restarts=2), []
    state = attack(t, keep=lambda s, _: states.append(s))
    assert attack.seen == [4] * 20
    assert not any(s["broken"].any() for s in states[:-1])
    assert torch.equal(state["broken"], state["wrong"])
    assert state["broken"][0]
    assert not torch.equal(state["found"][0], t.images[0])


# Square


def test_windows_shrink_by_auto_attacks_schedule():
    edges = [0, 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    sides = [200, 142, 100, 71, 50, 35, 25, 18, 13, 9]  # the square roots of 0.8 / 2^k of 224^2
    assert [side(edge + (edge > 0), 224 * 224, 0.8) for edge in edges] == sides
    assert [side(edge, 224 * 224, 0.8) for edge in edges[1:]] == sides[:-1]
    assert side(8001, 32 * 32, 0.8) == 1


def grey():
    """Images far from 0 and 1."""
    t = target()
    images = torch.full_like(t.images, 0.5)
    labels = t.logits(images, "", 0).argmax(1)
    return Target(t.defence, images, labels, t.draws)


def test_it_starts_with_stripes():
    t = grey()
    stripes = (Square(Ball(EPS)).begin(t)["found"] - t.images) / EPS
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    torch.testing.assert_close(stripes.abs(), torch.ones_like(stripes))
    assert (stripes != stripes[:1]).any()


def test_every_query_shifts_one_window_of_each_image():
    t, attack = grey(), Square(Ball(EPS))
    touched = torch.zeros(8, 8, dtype=torch.bool)
    for query in (10, 11, *range(60, 100)):
        change = attack._changed(t, t.images, query + 1) - t.images
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
    t, states = target(), []
    square.build(eps=EPS, queries=60)(t, keep=lambda state, _: states.append(state))
    for earlier, later in itertools.pairwise(states):
        assert (later["margin"] <= earlier["margin"]).all()
        same = (later["found"] == earlier["found"]).flatten(1).all(1)
        assert torch.equal(later["margin"] == earlier["margin"], same)
    logits = t.logits(states[-1]["found"], "", 0)
    others = logits.scatter(1, t.labels[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, t.labels[:, None])[:, 0] - others
    torch.testing.assert_close(states[-1]["margin"], margin)
    assert (states[-1]["margin"] < states[0]["margin"]).sum() > 0


def test_a_margin_that_was_luck_is_forgotten():
    state = square.build(eps=1e-4, queries=40, votes=25)(target(Coin()))
    assert (state["margin"] > 0).all()


def test_square_needs_no_gradient():
    class Rounded(nn.Module):
        def forward(self, x):
            return (x * 255).round() / 255

    t = target(net=nn.Sequential(Rounded(), network()))
    found = square.build(eps=EPS, queries=200)(t)
    assert found["broken"].sum() > t.logits(t.images, "", 0).argmax(1).ne(t.labels).sum()
    assert torch.equal(t.logits(found["found"], "", 0).argmax(1) != t.labels, found["broken"])


# FAB-T


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_fab_keeps_what_is_in_the_ball_and_misclassified(norm):
    t = target(dtype=torch.float32)
    lengths = []
    for eps in (1.0, 1e-4):
        attack = FABT(Ball(eps, norm), iterations=8, targets=5)
        state = attack(t)
        answers = t.logits(state["found"], "", 0).argmax(1)
        assert torch.equal(answers != t.labels, state["broken"])
        lengths.append(attack.ball.distance(state["found"], t.images))
    assert (lengths[0] > 1e-4).all()
    assert (lengths[1] == 0).all()


def test_fab_takes_the_classes_there_are():
    t = target(net=network(3), dtype=torch.float32)
    few, many = (FABT(Ball(1e-4), iterations=2, targets=n)(t) for n in (2, 9))
    assert torch.equal(few["queries"], many["queries"])
    # the clean image, and for each class: two passes, and two for every iteration
    assert few["queries"].tolist() == [1 + 2 * (2 + 2 * 2)] * 4


class Linear(nn.Module):
    """Class 1 is always a little below class 0; class 2 is reached by making the image lighter."""

    def forward(self, x):
        light = 10 * (x.mean((1, 2, 3)) - 0.55)
        return torch.stack([0 * light, 0 * light - 0.1, light], 1)


def test_fab_goes_towards_one_class_after_the_other():
    t = grey()
    t = Target(target(net=Linear()).defence, t.images.float(), 0 * t.labels, t.draws)
    attack = FABT(Ball(0.1), iterations=3, targets=2)
    first = attack.step(t, attack.begin(t), 0)
    assert not first["broken"].any()
    t.defence.classifier.asked = 0
    second = attack.step(t, first, 1)
    assert second["broken"].all()
    assert (second["queries"] - first["queries"]).sum() == t.defence.classifier.asked
    # to the boundary, which it oversteps by a little
    expected = torch.full_like(t.images, 0.05)
    torch.testing.assert_close(second["found"] - t.images, expected, rtol=0.02, atol=0)


# votes


class Scripted:
    """A target of two images that answers 0, 0, 1, 1, 1, ... to the draws of a vote."""

    labels = torch.tensor([0, 0])
    images = torch.zeros(2, 3, 1, 1)

    def take(self, positions):
        part = Scripted()
        part.labels, part.images = self.labels[positions], self.images[positions]
        return part

    def logits(self, x, step, draw, gradient):
        assert step == "here votes"
        return torch.tensor([[1.0, 0.0] if draw < 2 else [0.0, 1.0]]).expand(len(x), 2)


@pytest.mark.parametrize(("votes", "stands"), [(1, True), (3, False), (4, False), (5, True)])
def test_more_than_half_of_the_votes_must_be_wrong(votes, stands):
    doubtful = torch.tensor([False, True])
    got, asked = confirmed(Scripted(), Scripted.images, doubtful, "here", votes)
    assert got.tolist() == [False, stands]
    assert asked.tolist() == [0, votes if votes > 1 else 0]


@pytest.mark.parametrize("build", [apgd.build, square.build])
def test_chance_is_believed_only_without_votes(build):
    """A victim that is wrong once in five, at any image, is not broken by asking it again."""
    length = {"steps": 40} if build is apgd.build else {"queries": 40}
    t = target(Coin())
    believed = build(eps=1e-4, **length)(t)
    assert believed["broken"].all()
    assert not build(eps=1e-4, votes=25, **length)(t)["broken"].any()


# AutoAttack


def parts_alone(attack, t):
    return torch.stack([part(t)["broken"] for part in attack.parts])


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_the_verdict_is_the_union_of_the_parts(version):
    # logits so steep that the cross-entropy has no gradient
    t = target(net=nn.Sequential(network(), Steep()), dtype=torch.float32, wrong=1)
    attack = autoattack.build(eps=EPS, version=version, steps=8, queries=30, targets=3, draws=1)
    state, alone = attack(t), parts_alone(attack, t)
    assert torch.equal(state["broken"], alone.any(0))
    assert not state["broken"].all()
    first = torch.where(alone.any(0), alone.int().argmax(0), -1)
    first[0] = -1  # nothing had to break it
    assert torch.equal(state["by"], first)
    assert set(first.tolist()) == {-1, 1}  # the cross-entropy finds nothing
    answers = t.logits(state["found"], "", 0).argmax(1)
    assert torch.equal(answers != t.labels, state["broken"])


class Steep(nn.Module):
    def forward(self, logits):
        return 1e4 * logits


class Stub:
    """A part that calls some images broken, and finds some change of them."""

    steps = 1

    def __init__(self, name, calls, change):
        self.name, self.calls, self.change, self.began = name, calls, change, None

    def begin(self, target):
        self.began = target.draws.indices
        return {
            "found": self.change(target.images),
            "queries": torch.full((len(self.began),), 5),
            "broken": torch.tensor([i in self.calls for i in self.began]),
        }

    def step(self, target, state, number):
        return state


def test_a_part_gets_what_stands_and_a_fresh_pass_decides():
    t = target(wrong=1)
    assert t.logits(1 - t.images, "", 0).argmax(1)[1] != t.labels[1]
    liar = Stub("liar", calls={2}, change=lambda x: x)
    finder = Stub("finder", calls=set(), change=lambda x: torch.cat([1 - x[:1], x[1:]]))
    last = Stub("last", calls=set(), change=lambda x: x)
    state = AutoAttack(Ball(1.0), [liar, finder, last])(t)
    assert liar.began == finder.began == INDICES[1:]
    assert last.began == INDICES[2:]
    assert state["broken"].tolist() == [True, True, False, False]
    assert state["by"].tolist() == [-1, 1, -1, -1]
    assert state["queries"].tolist() == [1, 1 + 2 * 6, 1 + 3 * 6, 1 + 3 * 6]
    assert torch.equal(state["found"][1], 1 - t.images[1])


class Levels(nn.Module):
    """Class 0: surely of dark images, barely of grey ones, and not of light ones."""

    def forward(self, x):
        table = torch.tensor([[2, 0, 0], [1, 0.99, 0.99], [0, 0.1, -9]], dtype=x.dtype)
        return table[(x.mean((1, 2, 3)) * 2).long()]


def test_what_is_wrong_goes_before_what_has_a_higher_loss():
    t = target()
    defence = Defence(None, None, Levels())
    t = Target(defence, torch.zeros_like(t.images), torch.zeros_like(t.labels), t.draws)
    first = Stub("first", calls=set(), change=lambda x: x + 0.5)
    second = Stub("second", calls=set(), change=lambda x: torch.cat([x[:2] + 1, x[2:]]))
    found = AutoAttack(Ball(1.0), [first, second])(t)["found"]
    assert found[:, 0, 0, 0].tolist() == [1, 1, 0.5, 0.5]


def test_a_part_that_is_done_is_asked_no_more():
    class Done(Stub):
        steps = 3

        def step(self, target, state, number):
            raise AssertionError

    t = target()
    done = Done("done", calls=set(INDICES), change=lambda x: x)
    assert not AutoAttack(Ball(EPS), [done])(t)["broken"].any()


def test_rand_beats_one_blind_step():
    t = target(Noisy(0.03))

    def wrong(x):
        logits = torch.stack([t.logits(x, "test", draw) for draw in range(60)])
        return float((logits.argmax(2) != t.labels).double().mean())

    x = t.images.clone().requires_grad_()
    loss = F.cross_entropy(t.defence.classifier(x), t.labels, reduction="sum")
    blind = (x + EPS * torch.autograd.grad(loss, x)[0].sign()).detach().clamp(0, 1)
    attacked = autoattack.build(eps=EPS, version="rand", steps=15, draws=5)(t)["found"]
    assert wrong(attacked) > wrong(blind) > wrong(t.images)


def test_the_defaults_are_auto_attacks():
    standard = autoattack.build(eps="8/255")
    assert [p.name for p in standard.parts] == ["apgd-ce", "apgd-dlr-targeted", "fab-t", "square"]
    assert [p.steps for p in standard.parts] == [101, 9 * 101, 9, 5001]
    rand = autoattack.build(eps="8/255", version="rand")
    assert [(p.name, p.steps, p.draws) for p in rand.parts] == [
        ("apgd-ce", 101, 20),
        ("apgd-dlr", 101, 20),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: apgd.build(eps=EPS, loss="drl"), "unknown loss 'drl': did you mean 'dlr'"),
        (lambda: apgd.build(eps=EPS, norm="l2"), "unknown norm 'l2'"),
        (lambda: apgd.build(eps=EPS, gradient="ful"), "did you mean 'full'"),
        (lambda: apgd.build(eps=EPS, restarts=0), "1 or more steps, restarts"),
        (lambda: apgd.build(eps=EPS, rho=1.5), "rho is 1.5"),
        (lambda: apgd.build(eps=8), r"\(0, 1\]"),
        (lambda: square.build(eps=EPS, norm="L2"), "square is for the norm Linf"),
        (lambda: square.build(eps=EPS, votes=0), "queries and votes"),
        (lambda: square.build(eps=EPS, p_init=0), "p_init is 0"),
        (lambda: autoattack.build(eps=EPS, version="random"), "did you mean 'rand'"),
        (lambda: autoattack.build(eps=EPS, norm="L2"), "for L2 there is rand"),
        (lambda: autoattack.build(eps=EPS, draws=0), "1 or more draws"),
        (
            lambda: autoattack.build(eps=EPS)(target(net=network(3))),
            "apgd-dlr-targeted needs 4 or more classes, but the victim has 3",
        ),
        (lambda: apgd.build(eps=EPS, loss="dlr")(target(net=network(2))), "needs 3 or more"),
    ],
)
def test_what_is_impossible_is_said(make, message):
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
