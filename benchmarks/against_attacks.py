"""Attacks against those of torchattacks, auto-attack (PyPI's pyautoattack) and adv-lib.

    python benchmarks/against_attacks.py

Twenty images of CIFAR-10 in one batch, the same classifier, eps, norm and iterations, and as many
draws of EOT. Labels are the classifier's own answers, since most attacks leave an image alone that
is misclassified from the start. What an attack asks depends on what it finds, too, so the JSON says
how many images went through the classifier, without a gradient and with one. That is the mini
track's wrn-28-10, and for Square wrn-28-10-at: an image that is fooled is asked no more, and of
this one few are. adv-lib has no Square, auto-attack no PGD. The last rows are of a victim that
costs next to nothing, a product of matrices: what an attack itself takes for a step.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from ratios import Row, in_turns, one_thread, report
from torch import Tensor, nn

import puriflow.classifiers.torchvision_import  # noqa: F401, before torchattacks and adv-lib
from puriflow.attacks import apgd, pgd, square
from puriflow.attacks.base import Attack, Batch
from puriflow.compute import own_process
from puriflow.config import Config, load_config
from puriflow.defence import Defence
from puriflow.randomness import AttackNoise

EPS, STEP, SMALL_EPS, ROUNDS = 8 / 255, 2 / 255, 1 / 255, 3  # the small one is Square's
ALONE = 100  # iterations and queries on the victim that costs nothing
Run = Callable[[Tensor, Tensor], object]  # an attack on images and labels
PEERS = ["torchattacks", "pyautoattack", "adv-lib"]


class Counted(nn.Module):
    """A classifier that counts its images without a gradient and with one."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier, self.plain, self.gradients = classifier, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and images.requires_grad:
            self.gradients += len(images)
        else:
            self.plain += len(images)
        return self.classifier(images)

    def asked(self, run: Callable[[], object]) -> dict[str, int]:
        """How many images an attack lets through."""
        self.plain = self.gradients = 0
        run()
        return {"plain": self.plain, "gradients": self.gradients}


class Cheap(nn.Module):
    """A classifier of ten classes that costs next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight / 20, requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


@dataclass(frozen=True)
class Rivals:
    """An attack of ours and the same of libraries."""

    name: str
    steps: int
    ours: Attack
    others: Mapping[str, Run]

    def ways(self, model: nn.Module, images: Tensor) -> dict[str, Callable[[], object]]:
        """All of them on some images, which the model gets right."""
        victim, labels = Defence(None, None, model), model(images).argmax(1)
        batch = Batch(victim, images, labels, AttackNoise(0, list(range(len(images)))))
        others = {name: partial(run, images, labels) for name, run in self.others.items()}
        return {"ours": partial(self.ours, batch), **others}


def rivals_pgd(model: nn.Module, n_iter: int) -> Rivals:
    """PGD with a random start."""
    import torchattacks

    others = {
        "torchattacks": torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=n_iter),
        "adv-lib": partial(adv_lib().pgd_linf, model, ε=EPS, steps=n_iter, absolute_step_size=STEP),
    }
    return Rivals("PGD", n_iter, pgd.build(eps=EPS, step_size=STEP, n_iter=n_iter), others)


def rivals_apgd(model: nn.Module, n_iter: int, draws: int) -> Rivals:
    """APGD on cross-entropy with EOT."""
    import torchattacks
    from pyautoattack.autopgd_base import APGDAttack

    same = {"eps": EPS, "eot_iter": draws}
    own = apgd.build(n_iter=n_iter, **same)
    named = {**same, "norm": "Linf", "loss": "ce"}
    of_auto_attack = APGDAttack(model, n_iter=n_iter, device=torch.device("cpu"), **named)
    others = {
        "torchattacks": torchattacks.APGD(model, steps=n_iter, **named),
        "auto-attack": of_auto_attack.perturb,
        "adv-lib": partial(
            adv_lib().apgd, model, n_iter=n_iter, norm=torch.inf, loss_function="ce", **same
        ),
    }
    return Rivals(f"APGD, {draws} draws" if draws > 1 else "APGD", n_iter, own, others)


def rivals_square(model: nn.Module, n_queries: int) -> Rivals:
    """Square."""
    import torchattacks
    from pyautoattack.square import SquareAttack

    same = {"eps": SMALL_EPS, "n_queries": n_queries}
    named = {**same, "norm": "Linf", "resc_schedule": False}
    others = {
        "torchattacks": torchattacks.Square(model, **named),
        "auto-attack": SquareAttack(model, device=torch.device("cpu"), **named).perturb,
    }
    return Rivals("Square", n_queries, square.build(**same), others)


def adv_lib() -> ModuleType:
    """adv-lib's attacks, which import visdom for pictures of their progress that nobody draws."""
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    import adv_lib.attacks

    return adv_lib.attacks


def main(track: Config) -> None:
    """Print and write the ratios."""
    samples = track.part("dataset", "cifar10").build()
    images = torch.stack([torch.from_numpy(samples.image(i)) for i in range(len(samples))])
    named = (track.part("classifier", name).build() for name in ("wrn-28-10", "wrn-28-10-at"))
    plain, robust, cheap = (Counted(model) for model in (*named, Cheap()))
    with_network = [
        (plain, rivals_pgd(plain, 10)),
        (plain, rivals_apgd(plain, 10, 1)),
        (plain, rivals_apgd(plain, 3, 5)),
        (robust, rivals_square(robust, 20)),
    ]
    without = [rivals_pgd(cheap, ALONE), rivals_apgd(cheap, ALONE, 1), rivals_square(cheap, ALONE)]
    rows, asked = [], {}
    for model, rivals in [*with_network, *((cheap, one) for one in without)]:
        ways = rivals.ways(model, images)
        spent, name = in_turns(ways, ROUNDS), rivals.name
        scale, unit = (1, "CPU s") if model is not cheap else (1000 / rivals.steps, "ms/step")
        name += ", no network" if model is cheap else ""
        for other in rivals.others:
            rows.append(Row(f"{name}: {other}", scale * spent["ours"], scale * spent[other], unit))
        asked[name] = {who: model.asked(way) for who, way in ways.items()}
    report(__file__, rows, PEERS, images_through_the_classifier=asked)


if __name__ == "__main__":
    own_process()
    one_thread()
    main(load_config())
