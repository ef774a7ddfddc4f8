"""Audits: every planted fault is flagged by its own check, and the undefended classifier passes."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from puriflow import Defence, audit
from puriflow.attacks import apgd, autoattack, bpda_eot, diffattack, pgd, square
from puriflow.attacks.base import Batch
from puriflow.attacks.pgd import PGD
from puriflow.auditing.audit import CHECKS, QUICK
from puriflow.auditing.budget import eps_curve
from puriflow.auditing.case import Case, changed, parts_of
from puriflow.auditing.gradients import eot_curve
from puriflow.auditing.modules import Draws, as_defence
from puriflow.auditing.pattern import smooth
from puriflow.auditing.verdicts import Audit, decided, found, no_stronger
from puriflow.errors import UserError
from puriflow.purifiers.base import Purifier
from puriflow.randomness import AttackNoise
from puriflow.straight_through import straight_through

N, EPS = 8, 0.1


class Classifier(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.fc = nn.Linear(32 * 16, classes)

    def forward(self, x):
        return 8 * self.fc(torch.relu(self.b(torch.relu(self.a(x - 0.5)))).flatten(1))


class Noisy(Purifier):
    """Draws noise, and bends the colours a little."""

    def __init__(self, sigma=0.05):
        nn.Module.__init__(self)
        self.sigma = sigma

    def purify(self, x, noise, callback):
        raise NotImplementedError

    def forward(self, images, noise, callback=None):
        x = images + self.sigma * noise.normal_like(images)
        return x + 0.1 * torch.sin(6 * x)


class Detached(Noisy):
    def forward(self, images, noise, callback=None):
        return super().forward(images, noise).detach()


class Rooted(Noisy):
    """Adds a root of 0, whose derivative is none."""

    def forward(self, images, noise, callback=None):
        return images + 0 * (images - images.detach()).abs().sqrt()


class Straight(Noisy):
    """Claims to be differentiated, and is not."""

    def __init__(self):
        super().__init__(0.01)

    def forward(self, images, noise, callback=None):
        return straight_through(lambda x: 0.5 + 0.5 * torch.sin(9 * x), images)


class Seeded(Noisy):
    def forward(self, images, noise, callback=None):
        generator = torch.Generator().manual_seed(0)
        return images + 0.05 * torch.randn(images.shape[1:], generator=generator)


class Mates(Noisy):
    def forward(self, images, noise, callback=None):
        return super().forward(images, noise) - 0.2 * images.mean(0, keepdim=True)


class Steps(nn.Module):
    def forward(self, x):
        return (x * 32).round() / 32


class Random(nn.Module):
    """A module of somebody's own that draws from torch's generator."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(x + 0.05 * torch.randn_like(x))


@dataclass
class Forgetful(PGD):
    """Returns its last point, which is where it began."""

    def step(self, batch, state, number):
        state = super().step(batch, state, number)
        last = number + 1 == self.n_steps
        return state | {"x_adv": batch.images} if last else state


class Helpful(PGD):
    """Steps down the loss."""

    def mean_gradient(self, batch, x, number):
        return -super().mean_gradient(batch, x, number)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(classifier):
    images = torch.rand(N, 3, 8, 8)
    return images, classifier(images).argmax(1)


def strong(kind=PGD, n_iter=10, **options):
    return kind(pgd.build(eps=EPS, step_size=0.02, n_iter=1).ball, 0.025, n_iter, **options)


@pytest.fixture(scope="module")
def case(data):
    """A function that makes the case of a victim."""

    def made(victim, attack=None):
        attack = attack or strong()
        noise = AttackNoise(0, range(N), fixed=attack.fixed)
        return Case(Batch(victim, *data, noise), attack, type(attack).__name__)

    return made


def verdict(case, name):
    return decided(name, lambda: CHECKS[name](case)).verdict


@pytest.fixture(scope="module")
def undefended(classifier, data):
    return audit(classifier, *data, attack=strong())


def test_the_undefended_classifier_passes_all(undefended):
    assert {check.name for check in undefended.checks} == {*CHECKS, "eps-curve"}
    assert [check for check in undefended.checks if check.verdict != "passed"] == []
    assert undefended.accuracy["clean"][0] == 1
    assert undefended.accuracy["robust"][0] < 0.5  # so that it is one that can be attacked
    assert undefended["binarization"].value == 1
    assert undefended.cells() == {"attack_asr": 100, "failed": 0, "undecided": 0}


def test_a_quick_audit_says_the_same_of_what_it_asks(classifier, data, undefended):
    found = audit(classifier, *data, attack=strong(), quick=True)
    assert list(found.checks) == [undefended[name] for name in QUICK]
    assert found.cells() == undefended.cells()
    assert found.curves["eps"] == found.curves["eot"] == []
    noisy = audit(Defence(None, Noisy(), classifier), *data, attack=strong(n_iter=1), quick=True)
    assert [check.name for check in noisy.checks] == [n for n in QUICK if n != "binarization"]


def test_an_audit_is_a_table_and_json(undefended):
    said = json.loads(undefended.to_json())
    keys = {"name", "verdict", "value", "interval", "evidence", "cure"}
    assert {frozenset(check) for check in said["checks"]} == {frozenset(keys)}
    assert len(said["curves"]["loss"]) == N
    assert len(said["curves"]["loss"][0]) == 11  # the clean image, and ten steps
    assert said["curves"]["eps"][-1] == {"eps": 0.5, "accuracy": 0, "low": 0, "high": 0.324408}
    text = str(undefended)
    assert all(check.name in text for check in undefended.checks)
    assert "22 passed, 0 failed, 0 not decidable" in text
    again = Audit.from_json(undefended.to_json())
    assert again.to_json() == undefended.to_json()
    assert again["pattern"].interval[0] == pytest.approx(undefended["pattern"].interval[0], 1e-5)
    with pytest.raises(UserError, match="this is no audit"):
        Audit.from_json("[]")


@pytest.mark.parametrize("purifier", [Detached, Straight, Seeded, Mates])
def test_a_planted_fault_of_a_purifier_is_flagged_by_its_check(case, classifier, purifier):
    own = {"graph": Detached, "finite-differences": Straight}
    own |= {"fresh-noise": Seeded, "batch-mates": Mates}
    victim = case(Defence(None, purifier(), classifier))
    failed = [name for name, planted in own.items() if verdict(victim, name) == "failed"]
    assert failed == [name for name, planted in own.items() if planted is purifier]


def test_rounding_is_flagged_by_its_zero_gradient(case, classifier):
    rounded = case(Defence(None, None, nn.Sequential(Steps(), classifier)))
    assert verdict(rounded, "zero-gradient") == "failed"
    assert verdict(rounded, "graph") == "passed"


def test_without_a_gradient_the_other_checks_say_so(classifier, data):
    found = audit(Defence(None, Detached(), classifier), *data, attack=strong())
    assert found["graph"].verdict == "failed"
    assert "does not require grad" in found["graph"].evidence
    assert found["iterations-doubled"].verdict == "not decidable"
    assert found["iterations-doubled"].evidence.startswith("the attack cannot run")
    assert found["fresh-noise"].verdict == "passed"
    assert found.accuracy["robust"] is None
    assert found.cells()["attack_asr"] is None
    json.loads(found.to_json())


@pytest.mark.parametrize("quick", [True, False])
def test_an_attack_that_needs_no_gradient_is_audited_without_one(classifier, data, quick):
    victim = Defence(None, Detached(), classifier)
    for attack in (
        square.build(eps=EPS, n_queries=20),
        bpda_eot.build(eps=EPS, n_iter=2, eot_iter=2, n_draws=2),
        strong(n_iter=2, gradient="blind"),
    ):
        found = audit(victim, *data, attack=attack, quick=quick)
        assert found.accuracy["robust"] is not None
        if not quick:
            check = found["one-step"]  # which has no other gradient than the defence's
            assert (check.verdict, check.value) == ("not decidable", None)
            assert "no gradient reaches the image" in check.evidence


def test_a_gradient_that_is_nan_is_flagged(classifier, data):
    found = audit(Defence(None, Rooted(), classifier), *data, attack=strong())
    assert found["graph"].verdict == "failed"
    assert "it is NaN or infinite in 100 % of pixels" in found["graph"].evidence
    for name in ("zero-gradient", "finite-differences", "iterations-doubled", "pattern"):
        assert (found[name].verdict, found[name].value) == ("not decidable", None)
        assert found[name].evidence == "gradients of the attack's loss have NaN or infinity"
    assert found.accuracy["robust"] is None


def test_what_lies_outside_of_its_bands_no_attack_has_to_find(classifier, data):
    banded = pgd.build(eps=EPS, step_size=0.025, n_iter=10, bands="1/4")
    found = audit(classifier, *data, attack=banded)
    for name in ("unconstrained", "eps-curve", "binarization", "pattern"):
        assert (found[name].verdict, found[name].value) == ("not decidable", None)
        assert "outside its bands" in found[name].evidence
    assert found["iterations-doubled"].value is not None
    assert found.cells()["attack_asr"] is None


def test_too_few_steps_are_flagged(case, classifier):
    short = case(Defence(None, None, classifier), PGD(strong().ball, 0.012, 2, random_start=False))
    assert short.right_own.mean() == 1
    check = CHECKS["tenfold-budget"](short)
    assert (check.verdict, check.value) == ("failed", 0)
    assert check.cure == "a larger budget: n_iter: 20"
    assert verdict(short, "incomplete-optimisation") == "failed"


def test_a_number_that_twice_the_steps_move_is_flagged(case, classifier):
    four = case(Defence(None, None, classifier), PGD(strong().ball, 0.008, 4, random_start=False))
    check = CHECKS["iterations-doubled"](four)
    assert check.verdict == "failed"
    assert check.interval[0] > 0
    assert check.evidence.endswith("100.0 under the attack")
    assert check.cure == "more iterations: n_iter: 8"


def test_an_attack_that_helps_or_knows_nothing_is_flagged(case, classifier, data):
    half = np.arange(N) < 1  # what is wrong of itself is made right by steps down the loss
    labels = torch.where(torch.from_numpy(half), data[1], classifier(data[0]).argsort(1)[:, -2])
    batch = Batch(Defence(None, None, classifier), data[0], labels, AttackNoise(0, range(N)))
    helpful = Case(batch, strong(Helpful), "Helpful")
    assert helpful.right_clean.mean() == 1 / N
    assert verdict(helpful, "robust-above-clean") == "failed"
    weak = case(Defence(None, Noisy(), classifier), strong(Forgetful))
    for name in ("blind", "transfer"):
        assert verdict(weak, name) == "failed"


@pytest.mark.parametrize(
    "attack",
    [
        pgd.build(eps=EPS, step_size=0.025, n_iter=4, n_eval=2, eval_every=2),
        autoattack.build(eps=EPS, version="rand", n_iter=3, eot_iter=1),
        apgd.build(eps=EPS, n_iter=4),
    ],
    ids=["in the loop", "ensemble", "APGD"],
)
def test_the_path_is_where_the_attack_is(case, classifier, attack):
    own = case(Defence(None, None, classifier), attack)
    assert verdict(own, "silent-success") == "passed"
    losses = own.path[2]
    assert losses.shape[1] > 3
    assert (losses[:, 1:] != losses[:, :1]).any(1).all()
    assert own.right(own.path[1]).mean() <= own.right_own.mean()


def test_an_attack_that_returns_its_last_point_is_flagged(case, classifier):
    forgetful = case(Defence(None, None, classifier), strong(Forgetful))
    assert verdict(forgetful, "silent-success") == "failed"
    assert verdict(forgetful, "one-step") == "failed"
    assert verdict(forgetful, "finite-differences") == "passed"


def test_an_attack_that_finds_nothing_planted_is_flagged(case, classifier):
    forgetful = case(Defence(None, None, classifier), strong(Forgetful))
    for name in ("binarization", "pattern"):
        check = CHECKS[name](forgetful)
        assert (check.verdict, check.value) == ("failed", 0)


def test_an_attack_that_is_blind_is_flagged(case, classifier):
    blind = case(Defence(None, Straight(), classifier), strong(gradient="blind"))
    assert verdict(blind, "finite-differences") == "failed"
    check = CHECKS["transfer-failure"](blind)
    assert (check.verdict, check.value > 0.5) == ("failed", True)


def test_a_random_defence_is_judged_by_fresh_draws(case, classifier):
    noisy = case(Defence(None, Noisy(), classifier))
    assert (noisy.random, noisy.repeatable, noisy.draws) == (True, True, 10)
    for name in ("graph", "zero-gradient", "finite-differences", "fresh-noise", "batch-mates"):
        assert verdict(noisy, name) == "passed", name
    curve = eot_curve(noisy)
    assert [row["draws"] for row in curve] == [1, 2, 4, 8]
    assert curve[-1]["cosine"] > curve[0]["cosine"]
    planted = CHECKS["pattern"](noisy)
    assert (planted.verdict, planted.value) == ("passed", 1)


def test_a_known_answer_that_noise_destroys_decides_nothing(case, classifier):
    check = decided(
        "binarization",
        lambda: CHECKS["binarization"](case(Defence(None, Noisy(), classifier))),
    )
    assert check.verdict == "not decidable"
    assert "is not answered as planted" in check.evidence


def test_attention_draws_nothing_unless_it_drops_out():
    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    x = torch.rand(2, 4, 8)
    with torch.no_grad(), Draws() as drawn:
        layer(x)
        nn.functional.scaled_dot_product_attention(x, x, x)
    assert drawn.count == 0
    with torch.no_grad(), Draws() as drawn:
        nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    assert drawn.count > 0


def test_a_module_that_draws_by_itself_is_repeated_by_its_seed(case, classifier, data):
    before = torch.random.get_rng_state()
    own = case(as_defence(Random(classifier), [data[0]], 0), strong(n_iter=1))
    assert (own.random, own.repeatable, own.draws) == (True, True, 10)
    for name in ("graph", "finite-differences", "fresh-noise", "batch-mates", "blind"):
        assert verdict(own, name) == "passed", name
    assert verdict(own, "pattern") == "not decidable"
    assert verdict(own, "binarization") == "not decidable"
    assert torch.equal(torch.random.get_rng_state(), before)


def test_accuracy_falls_with_eps_or_the_check_fails(case, classifier):
    check, rows = eps_curve(case(Defence(None, None, classifier)))
    assert check.verdict == "passed"
    assert [row["eps"] for row in rows] == [0, EPS, 2 * EPS, 4 * EPS, 0.5]
    check, _ = eps_curve(case(Defence(None, None, classifier), strong(Forgetful)))
    assert (check.verdict, check.value) == ("failed", 1)


@pytest.mark.parametrize(
    "attack",
    [
        pgd.build(eps=EPS, step_size=0.01, n_iter=4, eot_iter=2),
        apgd.build(eps=EPS, n_iter=4, eot_iter=2),
        bpda_eot.build(eps=EPS, n_iter=4, eot_iter=2, n_draws=3),
        autoattack.build(eps=EPS, version="rand", n_iter=4, eot_iter=2),
        diffattack.build(eps=EPS, n_iter=4, eot_iter=2),
        square.build(eps=EPS, n_queries=4),
        pgd.build(eps=EPS, step_size=0.01, n_iter=4, eot_iter=2, n_eval=3),
    ],
    ids=lambda a: type(a).__name__,
)
def test_an_attack_is_given_a_larger_budget(attack):
    larger = changed(attack, iterations=3, draws=2, eps=0.2)
    assert larger.ball.eps == 0.2
    assert attack.ball.eps == EPS
    assert larger.n_steps > 2 * attack.n_steps
    for new, old in zip(parts_of(larger), parts_of(attack), strict=True):
        assert new.ball.eps == 0.2
        assert getattr(new, "eot_iter", 4) == 4
        assert getattr(new, "name", "") == getattr(old, "name", "")


def test_a_cure_names_options_that_the_attack_has(case, classifier):
    defence = Defence(None, Noisy(), classifier)
    asked = case(defence, square.build(eps=EPS, n_queries=3))
    assert asked.larger(iterations=2, draws=2) == "n_queries: 6"
    assert asked.larger(draws=2) == "it has no option for it"
    assert "no draws" in CHECKS["eot-doubled"](asked).evidence
    ensemble = case(defence, autoattack.build(eps=EPS, version="rand", n_iter=3, eot_iter=2))
    assert ensemble.larger(iterations=5, draws=2) == "n_iter: 15, eot_iter: 4"
    assert asked.exact_gradient().startswith("mend the defence's gradient")
    identity = case(defence, strong(gradient="identity"))
    assert identity.exact_gradient() == "attack the exact gradient: gradient: full"
    named = Case(identity.batch, identity.attack, "pgd-linf8")
    assert named.cure(n_iter=80) == "`attacks: {pgd-linf8: {n_iter: 80}}` in the track"


def test_two_classes_and_attacks_that_need_more(data, classifier):
    images, _ = data
    torch.manual_seed(1)
    two = Classifier(2).eval()
    found = audit(two, images, two(images).argmax(1), attack=strong(n_iter=4))
    assert found["graph"].verdict == "passed"
    with pytest.raises(UserError, match="apgd-dlr needs 3 or more classes, but the victim has 2"):
        audit(two, images, two(images).argmax(1), attack=autoattack.build(eps=EPS, version="rand"))


def test_an_attack_with_dlr_is_asked_for_planted_answers(case, classifier):
    dlr = case(Defence(None, None, classifier), apgd.build(eps=EPS, loss="dlr", n_iter=10))
    for name in ("binarization", "pattern"):
        assert verdict(dlr, name) == "passed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 1}, "two images or more, but was given 1"),
        ({"labels": 9 * np.ones(N, dtype=np.int64)}, "none of the images is answered right"),
        ({"attack": "pgd-linf9"}, "unknown attack 'pgd-linf9': did you mean 'pgd-linf8'"),
        ({"attack": 3}, "attack is of int"),
        ({"seed": -1}, "seed is -1"),
        ({"defence": len}, "the defence is of builtin_function_or_method"),
        ({"defence": nn.Flatten(start_dim=2)}, "must be logits"),
        ({"defence": nn.Sequential(nn.Flatten(), nn.Linear(192, 1))}, "two classes or more"),
        ({"defence": Defence(None, Noisy(), None)}, "without a classifier has no logits"),
        ({"scale": 255}, "must lie in .0, 1., but span"),
    ],
)
def test_bad_input_is_one_line(classifier, data, change, message):
    images, labels = data
    given = {"defence": classifier, "attack": strong(n_iter=1), **change}
    count = given.pop("images", N)
    images, labels = images[:count] * given.pop("scale", 1), given.pop("labels", labels[:count])
    with pytest.raises(UserError, match=message) as caught:
        audit(given.pop("defence"), images, labels, **given)
    assert "\n" not in str(caught.value)


def test_a_head_that_cannot_separate_decides_nothing(data):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    images, labels = data[0], flat(data[0]).argmax(1)
    case = Case(
        Batch(Defence(None, None, flat), images, labels, AttackNoise(0, range(N))), strong(), "PGD"
    )
    check = decided("binarization", lambda: CHECKS["binarization"](case))
    assert (check.verdict, check.name) == ("not decidable", "binarization")


def test_numbers_become_verdicts():
    ones, none = np.ones(8), np.zeros(8)
    assert no_stronger("n", ones, none, "e", "c").verdict == "failed"
    assert no_stronger("n", none, ones, "e", "c").verdict == "passed"
    slightly = no_stronger("n", ones, np.array([0.0] + [1.0] * 7), "e", "c")
    assert slightly.verdict == "not decidable"
    assert slightly.cure.startswith("more images")
    assert slightly.interval[0] < 0 < slightly.value < slightly.interval[1]
    assert found("n", ones, 0, "e", "c").verdict == "passed"
    assert found("n", ones, 0.5, "e", "c").verdict == "not decidable"  # by chance as well
    assert found("n", none, 0.5, "e", "c").verdict == "failed"
    assert found("n", np.array([0.0] + [1.0] * 7), 0, "e", "c").verdict == "not decidable"


def test_a_pattern_lies_in_the_lowest_bands():
    pattern = smooth(torch.randn(1, 3, 2, 2), 16, 16)[0].double()
    assert float(pattern.norm()) == pytest.approx(1)
    import scipy

    bands = scipy.fft.dctn(pattern.numpy(), axes=(1, 2), norm="ortho")
    assert np.square(bands[:, :2, :2]).sum() == pytest.approx(1)
