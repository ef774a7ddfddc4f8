"""Benchmarks: of victims whose robust accuracy is known, and of what is no defence."""

import json

import pytest
import torch
from torch import nn

from puriflow import Defence, benchmark
from puriflow.attacks import apgd, autoattack, pgd
from puriflow.attacks.ball import Ball
from puriflow.attacks.base import Attack, no_queries
from puriflow.benchmarking import folder
from puriflow.benchmarking.identity import identity_of
from puriflow.benchmarking.presets import EOT_ITER, PRESETS, Threat, chosen, options_of
from puriflow.benchmarking.record import Benchmark, schema
from puriflow.config import load_config
from puriflow.errors import UserError

N = 20


class Mean(nn.Module):
    """Whether an image's mean is above a half; two more classes are never the answer."""

    def forward(self, x):
        m = x.mean((1, 2, 3))
        return torch.stack([8 * (0.5 - m), 8 * (m - 0.5), 0 * m - 9, 0 * m - 10], 1)


class Coin(nn.Module):
    """Wrong about every image in three answers of ten."""

    def forward(self, x):
        tails = (torch.rand(len(x)) < 0.3).float() + 0 * x.mean((1, 2, 3))
        return torch.stack([1 - tails, tails, 0 * tails - 9], 1)


class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.02 * torch.randn_like(x)


class FirstRow(Mean):
    def forward(self, x):
        return super().forward(x)[:1]


class Brighter(nn.Module):
    def forward(self, x):
        return x + 0.001


def data(n=N, reach=0.06):
    """Images around a half, of which eps 8/255 turns those within 0.031: half of them."""
    means = torch.linspace(0.5 - reach, 0.5 + reach, n)
    return means[:, None, None, None].expand(n, 3, 4, 4).contiguous(), (means > 0.5).long()


class RandomSigns(Attack):
    """An attack of somebody's own, which is no dataclass."""

    n_steps = 1

    def __init__(self, ball):
        self.ball = ball

    def begin(self, batch):
        return {"x_adv": batch.images, "queries": no_queries(batch.images)}

    def step(self, batch, state, number):
        signs = batch.noise.attacker("signs").normal_like(batch.images).sign()
        x = self.ball.project(batch.images + self.ball.eps * signs, batch.images)
        return {**state, "x_adv": x}


PGD = {"step_size": "4/255", "n_iter": 3, "random_start": False}


def few_steps(**options):
    return pgd.build(eps="8/255", **PGD, **options)


@pytest.mark.parametrize(
    "attack",
    ["quick", autoattack.build(eps="8/255", n_iter=5, n_queries=20, n_target_classes=2)],
)
def test_a_classifier_of_the_mean_is_right_about_half_of_the_attacked_images(attack):
    found = benchmark(Mean().eval(), *data(), attack=attack)
    assert found.standard["average"].share == 1
    assert found.robust["average"].share == 0.5
    low, high = found.robust["average"].interval
    assert (round(low, 4), round(high, 4)) == (0.2993, 0.7007)  # Wilson's, of 10 of 20
    assert [image.robust["average"] for image in found.images] == [1] * 5 + [0] * 10 + [1] * 5
    assert not found.defence.random
    (x_adv,) = found.x_adv.values()
    assert (x_adv - data()[0]).abs().max() <= 8 / 255 + 1e-6


def test_it_says_what_auto_attack_s_own_package_says():
    package = pytest.importorskip("pyautoattack")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6)).eval()
    x = torch.rand(12, 3, 8, 8)
    y = net(x).argmax(1)
    theirs = package.AutoAttack(net, eps=0.02)
    theirs.apgd.n_iter = theirs.apgd_targeted.n_iter = theirs.fab.n_iter = 20
    theirs.apgd_targeted.n_target_classes = theirs.fab.n_target_classes = 3
    theirs.square.n_queries = 50
    with torch.no_grad():
        left = net(theirs.run_standard_evaluation(x, y, batch_size=12)[0]).argmax(1) == y
    ours = autoattack.build(eps=0.02, n_iter=20, n_target_classes=3, n_queries=50)
    found = benchmark(net, x, y, attack=ours, eps=0.02)
    assert 0 < left.sum() < 12
    assert [image.robust["average"] == 1 for image in found.images] == left.tolist()


def test_a_random_defence_is_judged_by_fresh_draws():
    n, images = 150, torch.full((150, 3, 2, 2), 0.5)
    found = benchmark(Coin().eval(), images, torch.zeros(n, dtype=int), attack=few_steps())
    assert found.defence.random
    assert found.n_draws == 10
    # Of ten answers, each wrong by a chance of 0.3: the mean, no more than four wrong or a tie
    # (the smaller class, which is the label), and none.
    expected = {"average": 0.7, "majority": 0.9527, "worst": 0.7**10}
    for rule, chance in expected.items():
        trials = n * 10 if rule == "average" else n
        error = (chance * (1 - chance) / trials) ** 0.5
        for said in (found.standard, found.robust):
            assert abs(said[rule].share - chance) < 4 * error
    low, high = found.robust["average"].spread
    assert low < found.robust["average"].share < high
    assert (
        benchmark(  # by another seed other draws
            Coin().eval(), images, torch.zeros(n, dtype=int), attack=few_steps(), seed=1
        ).images
        != found.images
    )


def test_parts_of_one_s_own_and_evaluations_in_the_loop():
    victim = Defence(Brighter(), Noisy(), Mean())
    found = benchmark(victim, *data(6), attack=few_steps(n_eval=5), n_draws=4)
    assert found.defence.name == "Brighter + Noisy + Mean"
    assert found.robust["in-loop-worst"].share <= found.robust["in-loop-average"].share
    assert set(found.standard) == set(found.robust)
    assert found.robust["worst"].share <= found.robust["average"].share
    (attacked,) = found.attacks
    assert attacked.options["attack"]["n_iter"] == 3
    assert attacked.passes <= 3 + 4 * 5  # three gradients, four evaluations


def test_a_killed_benchmark_goes_on(tmp_path, monkeypatch):
    whole = benchmark(Mean().eval(), *data(6), attack=few_steps(), batch=2)
    asked, real = [], folder.attacked

    def dies(name, attack, batch, work):
        asked.append(len(batch.images))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(name, attack, batch, work)

    monkeypatch.setattr(folder, "attacked", dies)
    again = {"attack": few_steps(), "batch": 2, "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        benchmark(Mean().eval(), *data(6), **again)
    found = benchmark(Mean().eval(), *data(6), **again)
    assert asked == [2, 2, 2, 2]  # the third anew
    assert found.images == whole.images
    assert torch.equal(found.x_adv["PGD"], whole.x_adv["PGD"])
    assert Benchmark.from_json(tmp_path / "out" / "benchmark.json").to_json() == found.to_json()
    with pytest.raises(UserError, match="a benchmark that differs in seed: name a new folder"):
        benchmark(Mean().eval(), *data(6), **again, seed=1)
    with pytest.raises(UserError, match="differs in defence"):
        benchmark(nn.Sequential(Mean()).eval(), *data(6), **again)
    other = Mean().eval()
    other.forward = lambda x: 2 * Mean()(x)  # which no tensor, attribute or file of it says
    with pytest.raises(UserError, match="differs in answers"):
        benchmark(other, *data(6), **again)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty, and no benchmark"):
        benchmark(Mean().eval(), *data(6), **again | {"out": tmp_path / "mine"})


def test_a_defence_is_told_from_others_by_tensors_attributes_and_code():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert identity_of(one) == identity_of(other)
    for value in (0.1, torch.ones(2), {"a": [1]}, [nn.Linear(1, 1)], lambda x: x + 1):
        before = identity_of(other)
        other.sigma = value
        assert identity_of(other) not in (before, identity_of(one))
    assert identity_of(Noisy()) != identity_of(Brighter())
    kernel = nn.Conv2d(3, 4, 1).to(torch.bfloat16)
    assert identity_of(kernel) == identity_of(kernel.to(memory_format=torch.channels_last))


def test_the_record_is_what_its_schema_says(repository):
    file = repository / "workflow" / "schemas" / "benchmark.schema.json"
    assert file.read_text() == schema()
    found = benchmark(Mean().eval(), *data(4), attack="quick")
    text = found.to_json()
    assert Benchmark.from_json(text).to_json() == text
    raw = json.loads(text)
    average = raw["robust"]["average"]
    for change, says in [
        ({"attack": "quick", "cut": ""}, "`cut` must say so"),
        ({"standard": {}}, "must have the same rules"),
        ({"audit": {}}, "this is no audit"),
        ({"images": [{**raw["images"][0], "attack": "x"}] * 4}, "name an attack 'x'"),
        ({"robust": {"average": {**average, "interval": [0.9, 1]}}}, "average is not that"),
        (
            {"robust": {"average": average | {"share": 0.9}}},
            "robust.average is not",
        ),
        ({"n": 5}, "n is 5, but there are 4 images"),
        ({"schema": 2}, "schema"),
        ({"attcak": "x"}, "attcak"),
    ]:
        with pytest.raises(UserError, match=says):
            Benchmark.from_json(json.dumps(raw | change))
    with pytest.raises(UserError, match="no JSON"):
        Benchmark.from_json("{")


def test_what_is_cut_says_so_in_every_form():
    found = benchmark(Mean().eval(), *data(4), attack="quick")
    said = "10 steps with 4 draws, where 200 and 20 are published"
    for form in (str(found), found.to_latex(), found.to_json(), found.to_frame()["cut"][0]):
        assert said in form
    frame = found.to_frame()
    assert frame.loc[0, ["standard", "robust", "n"]].tolist() == [100, 50, 4]
    assert r"\toprule" in found.to_latex()
    named = benchmark(Mean().eval(), *data(4), attack="pgd-eot-linf8")
    assert named.cut == "PGD+EOT of 20 steps with 4 draws (published 200 and 20)"
    own = benchmark(Mean().eval(), *data(4), attack=few_steps())
    assert own.cut == "PGD has settings of its own, and not a preset's"


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (few_steps(gradient="blind"), "differentiates no more than `blind` says"),
        (few_steps(n_eval=3, gradient="identity"), "no more than `identity` says"),
        (few_steps(fixed=True), "it knows one draw of the noise"),
        (few_steps(bands="1/2"), "its perturbations are of 0.5 of the bands"),
        (apgd.build(eps="8/255", n_iter=1), "stops at one wrong answer of a random defence"),
        (autoattack.build(eps="8/255", version="rand", n_iter=1), "stops at one wrong answer"),
        (autoattack.build(eps="8/255", version="rand", n_iter=1, n_eval=2), "own, and not"),
        (apgd.build(eps="8/255", n_iter=1, n_eval=2), "own, and not"),
    ],
)
def test_what_makes_an_attack_weak_is_said(attack, says):
    cut = chosen(attack, threat(), load_config).cut
    assert says in cut
    assert ("one wrong answer" in cut) == ("one wrong answer" in says)


def test_attacks_of_one_s_own_and_lists_with_presets():
    signs = RandomSigns(Ball(8 / 255))
    found = benchmark(Mean().eval(), *data(6), attack=[signs, "quick"])
    assert [attack.name for attack in found.attacks] == ["RandomSigns", "pgd-eot"]
    assert found.attacks[0].options["ball"]["eps"] == 8 / 255
    assert found.attacks[0].robust["average"].share == 1
    assert found.robust["average"].share < 1
    with pytest.raises(UserError, match=r"in several balls, Linf 0\.0156863 and Linf 0\.0313725"):
        benchmark(Mean().eval(), *data(6), attack=[signs, pgd.build(**PGD, eps="4/255")])


def test_in_l2_a_radius_is_given_and_presets_are_what_there_is():
    with pytest.raises(UserError, match="eps is not given, and what L2 takes"):
        benchmark(Mean().eval(), *data(6), norm="L2")
    # A step of 0.0625 in each of 48 values is one of 0.433: it turns means within 0.0625.
    found = benchmark(Mean().eval(), *data(20, 0.12), norm="L2", eps=0.0625 * 48**0.5)
    assert [attack.name for attack in found.attacks] == ["apgd-ce", "apgd-t"]
    assert found.cut == "AutoAttack's FAB-T and Square are not here for L2 and 4 classes"
    assert found.robust["average"].share == 0.5
    few = chosen("standard", threat(random=False, classes=2), load_config)
    assert list(few.rungs) == ["apgd-ce", "square"]
    assert "APGD-T and FAB-T are not here" in few.cut
    assert list(chosen("quick", threat(norm="L2", eps=0.5), load_config).rungs) == ["apgd-ce"]


def test_a_defence_that_draws_for_some_images_alone_is_random():
    class Sometimes(nn.Module):
        def forward(self, x):
            bright = x.mean((1, 2, 3), keepdim=True) > 0.53
            return torch.where(bright, x + 0.02 * torch.randn_like(x), x)

    class Guided(nn.Module):
        def forward(self, x, guide=None):
            return x + 0.02 * torch.randn_like(x) if guide is None else x

    for purifier in (Sometimes(), Guided()):
        given = Defence(None, purifier, Mean()), *data()
        assert benchmark(*given, attack=few_steps(), n_draws=2).defence.random
    whole = nn.Sequential(Guided(), Mean()).eval()
    assert benchmark(whole, *data(6), attack=few_steps(), n_draws=2).defence.random


def test_a_defence_without_gradient_is_said_to_have_none():
    class Detached(Mean):
        def forward(self, x):
            with torch.no_grad():
                return super().forward(x)

    with pytest.raises(UserError, match="no gradient reaches the image through the defence"):
        benchmark(Detached().eval(), *data(6), attack="quick")
    with torch.inference_mode():
        x, y = data(6)
        assert benchmark(Mean().eval(), x, y, attack="quick").robust["average"].share < 1


def threat(random=True, victim=None, **options):
    given = {"classes": 4, "eps": 4 / 255, "norm": "Linf", "n_draws": 10, **options}
    return Threat(victim or Defence(None, Noisy(), Mean()), random, **given)


def test_presets_are_the_published_settings():
    standard = options_of(
        chosen("auto", threat(random=False), load_config).rungs["autoattack"].attack
    )
    names = [one["loss"] if "loss" in one else one["kind"] for one in standard["attacks"]]
    assert names == ["ce", "dlr-targeted", "FABT", "Square"]
    assert [one.get("n_iter", 0) for one in standard["attacks"]] == [100, 100, 100, 0]
    assert standard["attacks"][3]["n_queries"] == 5000
    rungs = chosen("auto", threat(), load_config).rungs
    assert list(rungs) == ["pgd-eot", "apgd-ce", "apgd-dlr"]
    lee_kim = options_of(rungs["pgd-eot"].attack)
    assert lee_kim["n_eval"] == 10
    inner = lee_kim["attack"]
    assert (inner["n_iter"], inner["eot_iter"], inner["step_size"]) == (200, 20, 0.007)
    assert not inner["random_start"]
    assert inner["ball"] == {"eps": 4 / 255, "norm": "Linf", "bands": 1.0}
    for name in ("apgd-ce", "apgd-dlr"):
        inner = options_of(rungs[name].attack)["attack"]
        assert (inner["n_iter"], inner["eot_iter"], inner["gradient"]) == (100, EOT_ITER, "full")
    assert list(chosen("random", threat(classes=2), load_config).rungs) == ["pgd-eot", "apgd-ce"]
    assert set(PRESETS) == {"standard", "random", "ladder", "quick"}


def test_the_ladder_has_every_gradient():
    victim = Defence(Brighter(), Noisy(), Mean())
    rungs = chosen("ladder", threat(victim=victim), load_config).rungs
    gradients = {name: rung.attack.attack.gradient for name, rung in rungs.items()}
    assert gradients == {one: one for one in ("blind", "identity", "restorer", "full")}
    assert list(chosen("ladder", threat(), load_config).rungs) == ["blind", "identity", "full"]
    with pytest.raises(UserError, match="nothing is known in front of this classifier"):
        chosen("ladder", threat(victim=Defence(None, None, Mean())), load_config)


BAD = {
    "probabilities": (nn.Sequential(Mean(), nn.Softmax(1)), {}, "returns probabilities"),
    "one logit": (nn.Sequential(nn.Flatten(), nn.Linear(48, 1)), {}, r"are \(4, 1\), but must"),
    "NaN": (nn.Sequential(Mean(), nn.Threshold(1e9, float("nan"))), {}, "NaN or infinity"),
    "images": (nn.Conv2d(3, 3, 3), {}, r"\(4, 3, 2, 2\), but must be logits"),
    "another size": (
        nn.Sequential(nn.Flatten(), nn.Linear(3, 2)),
        {},
        r"fails on images \(4, 3, 4",
    ),
    "no module": (lambda x: x, {}, "is of function, but must be a torch module"),
    "n_draws": (Mean(), {"n_draws": 0}, "n_draws is 0, but must be a whole number from 1"),
    "device": (Mean(), {"device": "nowhere"}, "device 'nowhere' cannot be had here"),
    "elsewhere": (nn.Linear(1, 1), {"device": "meta"}, "is on cpu, but device is meta: move it"),
    "attack": (Mean(), {"attack": "quikc"}, "did you mean 'quick'"),
    "no attack": (Mean(), {"attack": 3}, "is of int, but must be one of auto"),
    "none": (Mean(), {"attack": []}, "empty list"),
    "eps": (Mean(), {"eps": 300}, "eps"),
    "norm": (Mean(), {"norm": "L7", "attack": "random"}, "L7"),
    "another ball": (
        Mean(),
        {"attack": few_steps(), "eps": 0.5},
        "is in Linf 0.0313725, but Linf 0",
    ),
    "seed": (Mean(), {"seed": -1}, "seed"),
    "another": (Mean(), {"attack": "pgd-linf4", "eps": "8/255"}, "is in Linf 0.0156863, but"),
    "batch": (Mean(), {"batch": "4"}, "batch is '4', but must be a whole number from 1"),
    "one row": (FirstRow(), {}, r"to 4 images"),
    "standard": (nn.Sequential(Noisy(), Mean()), {"attack": "standard"}, "is for deterministic"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_defence_is_refused_in_one_line(case):
    module, options, says = BAD[case]
    if isinstance(module, nn.Module):
        module.eval()
    with pytest.raises(UserError, match=says) as error:
        benchmark(module, *data(6), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x * 255, y), "divide them by 255"),
        (lambda x, y: (x[0], y), "must be"),
        (lambda x, y: (x.numpy(), y), "must be a torch tensor"),
        (lambda x, y: (x[:0], y[:0]), "there are no images"),
        (lambda x, y: (x * float("nan"), y), "NaN"),
        (lambda x, y: (x, y[:2]), "6 images, but 2 labels"),
        (lambda x, y: (x, y + 4), "has the label 4, but the classifier knows the classes 0 to 3"),
        (lambda x, y: (x, y.float()), "must be whole numbers"),
        (lambda x, y: (x, nn.functional.one_hot(y)), "must be whole numbers"),
        (lambda x, y: (x, ["cat"] * 6), "labels are no classes"),
    ],
)
def test_what_are_no_images_and_labels_is_refused(change, says):
    with pytest.raises(UserError, match=says):
        benchmark(Mean().eval(), *change(*data(6)))


def test_a_module_in_training_mode_is_refused_and_one_in_evaluation_mode_is_left_as_it_is():
    module = nn.Sequential(Mean(), nn.Dropout())
    with pytest.raises(UserError, match=r"in training mode, where BatchNorm"):
        benchmark(module, *data(6))
    module.eval()
    module[1].train()
    with pytest.raises(UserError, match=r"in training mode \(its 1\)"):
        benchmark(module, *data(6))
    net = nn.Sequential(Noisy(), nn.Flatten(), nn.Linear(48, 4)).eval()
    x, y = data(6)
    before = torch.get_rng_state()
    benchmark(net, x, y, attack="quick", n_draws=2)
    assert net[2].weight.requires_grad
    assert torch.equal(before, torch.get_rng_state())
