from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from puriflow.attacks import diffattack
from puriflow.attacks.base import Batch
from puriflow.attacks.diffattack import logits_and_deviation
from puriflow.defence import Defence
from puriflow.diffusion.denoisers import VPDenoiser
from puriflow.diffusion.recomputation import _Recomputed
from puriflow.diffusion.vp import alpha_bar, beta, diffuse
from puriflow.errors import UserError
from puriflow.purifiers.ddpm import DDPM
from puriflow.purifiers.ldsde import LDSDE
from puriflow.purifiers.scoreopt import ScoreOpt
from puriflow.purifiers.vesde import VESDE
from puriflow.purifiers.vpsde import VPSDE
from puriflow.randomness import AttackNoise, ImageNoise

EPS = 8 / 255
INDICES = [3, 8, 5]


class Net(nn.Module):
    """A smooth little noise predictor, wide enough for its activations to show."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x, labels):
        return self.last(torch.tanh(self.first(x)))


def victim(make=lambda d: VPSDE(d, t=6, rounds=2)):
    torch.manual_seed(0)
    purifier = make(VPDenoiser(Net()))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    restorer = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())
    return Defence(restorer, purifier, classifier).double().requires_grad_(False)


def batch(defence=None, positions=(0, 1, 2)):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    defence = defence or victim()
    with torch.no_grad():
        labels = defence(images, INDICES).argmax(1)
    labels[2] = (labels[2] + 1) % 4  # misclassified from the start
    return Batch(defence, images, labels, AttackNoise(0, INDICES)).take(list(positions))


def attack(**options):
    """The attack without its host."""
    (inner,) = diffattack.build(**{"eps": "8/255", "n_iter": 5, "eot_iter": 2, **options}).attacks
    return inner


def noise(draw=0):
    return ImageNoise(0, "attack diffattack 0", INDICES, [draw])


def by_hand(defence, x):
    """L_dev written out: two rounds, every state of which is met by the forward process."""
    draws, purifier, errors = noise(), defence.purifier, []
    state = defence.restorer(x) * 2 - 1
    for _ in range(purifier.rounds):
        clean, e = state, draws.normal_like(x)
        state = diffuse(clean, purifier.t, e)
        for t, t_next in pairwise(purifier.times):
            drift = 0.5 * beta(t) * state + beta(t) * purifier.denoiser.score(state, t)
            spread = (beta(t) * (t - t_next)).sqrt()
            state = state + drift * (t - t_next) + spread * draws.normal_like(state)
            alpha_bar_next = alpha_bar(t_next.double())
            out = alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next).sqrt() * e
            errors.append(((out - state) ** 2).mean((1, 2, 3)))
    return defence.classifier((state + 1) / 2), sum(errors) / len(errors)


def test_the_deviation_is_between_forward_and_reverse_states_of_the_same_times():
    b = batch()
    logits, deviation = logits_and_deviation(b, b.images, noise(), "mean")
    expected_logits, expected = by_hand(b.victim, b.images)
    assert (deviation > 0).all()
    torch.testing.assert_close(deviation, expected)
    torch.testing.assert_close(logits, expected_logits)


def test_the_sum_over_pixels_is_their_mean_times_their_number():
    """Of the deviation, and so of what the attack adds to its loss; the mean is the default."""
    b = batch()
    logits, total = logits_and_deviation(b, b.images, noise(), "sum")
    expected_logits, mean = by_hand(b.victim, b.images)
    torch.testing.assert_close(total, 3 * 8 * 8 * mean)
    torch.testing.assert_close(logits, expected_logits)
    loss, *_ = attack(weight=0.0, eot_iter=1).loss_and_grad(b, b.images, 0)
    for options, l_dev in [
        ({}, mean),
        ({"deviation": "mean"}, mean),
        ({"deviation": "sum"}, total),
    ]:
        found, *_ = attack(weight=2.0, eot_iter=1, **options).loss_and_grad(b, b.images, 0)
        torch.testing.assert_close(found - loss, 2 * l_dev)


@pytest.mark.parametrize(("number", "name"), [(0, "ce"), (5, "ce"), (6, "dlr"), (11, "dlr")])
def test_the_loss_and_its_gradient(number, name, monkeypatch):
    """Of the right round, and exact: against plain autograd and central differences."""
    a, b = attack(weight=3.0, eot_iter=1), batch()

    def loss_of(x):
        logits, deviation = logits_and_deviation(
            b, x, b.noise.victim(f"diffattack {number}"), "mean"
        )
        if name == "ce":
            return F.cross_entropy(logits, b.labels, reduction="none") + 3 * deviation
        ordered = logits.sort(1, descending=True)[0]
        right = logits[range(3), b.labels]
        best = torch.where(logits.argmax(1) == b.labels, ordered[:, 1], ordered[:, 0])
        return (best - right) / (ordered[:, 0] - ordered[:, 2]) + 3 * deviation

    loss, grad, _ = a.loss_and_grad(b, b.images, number)
    torch.testing.assert_close(loss, loss_of(b.images))
    monkeypatch.setattr(_Recomputed, "apply", lambda step, _, n, *x: step.function(*x[:n]))
    x = b.images.clone().requires_grad_()
    plain = torch.autograd.grad(loss_of(x).sum(), x)[0]
    torch.testing.assert_close(grad, plain, rtol=1e-8, atol=1e-10)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    ahead, behind = (loss_of(b.images + sign * 1e-5 * way).sum() for sign in (1, -1))
    slope = (ahead - behind) / 2e-5
    torch.testing.assert_close((grad * way).sum(), slope, rtol=1e-6, atol=1e-9)


def test_the_gradient_is_the_mean_over_draws():
    b = batch()
    _, mean, _ = attack(eot_iter=2).loss_and_grad(b, b.images, 4)
    grads = []
    for draw in range(2):
        x = b.images.clone().requires_grad_()
        logits, deviation = logits_and_deviation(
            b, x, b.noise.victim("diffattack 4", [draw]), "mean"
        )
        loss = F.cross_entropy(logits, b.labels, reduction="none") + deviation
        grads.append(torch.autograd.grad(loss.sum(), x)[0])
    torch.testing.assert_close(mean, sum(grads) / 2)


# a state and its difference from the forward process, and DDPM's noise; one activation of the
# network would add more than five
@pytest.mark.parametrize(("kind", "images"), [(VPSDE, 2), (VESDE, 2), (DDPM, 3)])
def test_watching_keeps_no_network(kind, images):
    def saved_bytes(level):
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        b = batch(victim(lambda d: kind(d, t=level)))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits_and_deviation(b, b.images.clone().requires_grad_(), noise(), "mean")
        return sum(size for size, _ in storages.values())

    number = 8  # bytes: of a step, its sigma
    most = 50 * (images * batch().images.nbytes + number)
    assert 0 < saved_bytes(60) - saved_bytes(10) <= most


def test_no_image_is_ever_dropped():
    b, states = batch(), []
    a = attack()
    end = a(b, callback=lambda state, _: states.append(state))
    assert len(states) == a.n_steps == 2 * (5 + 1)
    assert states[0]["misclassified"][2]
    assert not any(state["success"].any() for state in states[:-1])
    assert torch.equal(end["success"], end["misclassified"])
    for before, after in pairwise(states):
        assert (after["queries"] - before["queries"] == 2).all()
    for i in range(3):  # the one that was wrong all along is moved in both runs
        assert len({state["x"][i].numpy().tobytes() for state in states}) >= 4
    assert (end["x_adv"] - b.images).abs().max() <= EPS + 1e-12
    assert end["x_adv"].min() >= 0
    assert end["x_adv"].max() <= 1
    assert (end["x_adv"] != b.images).flatten(1).any(1).all()


def test_the_deviation_is_driven_up():
    b = batch(victim(lambda d: VPSDE(d, t=100, evaluations=5)))
    b = Batch(b.victim, b.images, b.labels, AttackNoise(0, INDICES, fixed=True))
    end = attack(weight=1e4, losses=["ce"], n_iter=15, eot_iter=1)(b)
    with torch.no_grad():
        before, after = (
            logits_and_deviation(b, x, ImageNoise(0, "purify", INDICES), "mean")[1]
            for x in (b.images, end["x_best"])
        )
    assert (after > before).all()


def test_a_killed_attack_goes_on():
    b, states = batch(), {}
    whole = attack()(b, callback=lambda state, done: states.update({done: state}))
    for done in (3, 6, 7):
        again = attack()(b, saved=(states[done], done))
        assert whole.keys() == again.keys()
        assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_an_images_attack_does_not_depend_on_its_batch():
    together, alone = attack()(batch()), attack()(batch(positions=[1]))
    for key in together:
        torch.testing.assert_close(together[key][1:2], alone[key], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "own"),
    [
        (None, "none"),
        (lambda d: LDSDE(d, t=10, sigma2=1e-3, lambda_ld=1e-2, eta=5.0), "LDSDE"),
        (
            lambda d: ScoreOpt(
                d,
                **{"method": "O", "sigma": 0.3, "n_iter": 1, "learning_rate": 0.1},
                shared=False,
                resize=None,
            ),
            "ScoreOpt",
        ),
    ],
)
def test_a_victim_without_a_forward_process_is_refused(make, own):
    defence = victim(make) if make else Defence(None, None, victim().classifier)
    with pytest.raises(UserError, match=f"needs a purifier such as .* the victim's is {own}"):
        attack()(batch(defence))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": ["ce", "drl"]}, "did you mean 'dlr'"),
        ({"norm": "L1"}, "did you mean 'L2'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        attack(**options)
