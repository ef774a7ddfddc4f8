"""Run all checks of an evaluation."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.attacks.base import Attack, Batch
from puriflow.auditing import budget, failure, gradients, noise, rivals
from puriflow.auditing.binarization import binarization
from puriflow.auditing.case import Case
from puriflow.auditing.modules import as_defence
from puriflow.auditing.pattern import pattern
from puriflow.auditing.verdicts import Audit, Check, Undecidable, decided
from puriflow.config import load_config
from puriflow.defence import Defence, checked_seed
from puriflow.errors import UserError
from puriflow.fitting import check_range
from puriflow.kernels import chosen
from puriflow.metrics.accuracy import wilson
from puriflow.progress import Progress
from puriflow.randomness import AttackNoise
from puriflow.registry import Part, Parts

# By name, in the order of the table.
CHECKS: dict[str, Callable[[Case], Check]] = {
    "graph": gradients.graph,
    "zero-gradient": gradients.zero,
    "finite-differences": gradients.finite_differences,
    "fresh-noise": noise.fresh,
    "batch-mates": noise.mates,
    "unstable-predictions": failure.unstable_predictions,
    "silent-success": failure.silent_success,
    "incomplete-optimisation": failure.incomplete_optimisation,
    "transfer-failure": failure.transfer_failure,
    "unconstrained": failure.unconstrained,
    "iterations-doubled": budget.iterations_doubled,
    "eot-doubled": budget.eot_doubled,
    "tenfold-budget": budget.tenfold,
    "one-step": budget.one_step,
    "blind": rivals.blind,
    "transfer": rivals.transfer,
    "random-search": rivals.random_search,
    "square": rivals.square,
    "robust-above-clean": rivals.robust_above_clean,
    "binarization": binarization,
    "pattern": pattern,
}
# That ask no more than a run or two of the attack; binarization of deterministic defences only,
# since the others take many evaluations, and destroy the known answer.
QUICK = (
    *("graph", "zero-gradient", "finite-differences", "fresh-noise", "batch-mates"),
    *("silent-success", "incomplete-optimisation", "transfer-failure", "robust-above-clean"),
    *("binarization", "pattern"),
)


TOGETHER = 32  # images of a batch that is asked whether anything is drawn


def audit(
    defence: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack | str = "pgd-linf8",
    seed: int = 0,
    *,
    quick: bool = False,
) -> Audit:
    """Check whether an evaluation by this attack is to be believed.

    Args:
        defence: any torch module from [0, 1] images to logits, or a `Defence`. A module is looked
            at in evaluation mode. One that draws random numbers must take them from torch's own
            generator, to be repeatable; what is in front of its classifier is not known.
        images: (N, 3, H, W) in [0, 1], two or more, on the defence's device.
        labels: (N,) classes.
        attack: an attack, or the name of one of the default track.
        seed: of all draws.
        quick: make only the checks that ask no more than a run or two of the attack.

    Raises:
        UserError: one of these is something else, or none of the images is answered right.
    """
    name = attack if isinstance(attack, str) else type(attack).__name__
    method = named(attack) if isinstance(attack, str) else attack
    if not isinstance(method, Attack):
        raise UserError(
            f"attack is of {name}, but must be a name, or an attack of puriflow.attacks"
        )
    Defence(None, None, None).check_images(images)
    check_count(len(images))
    check_range(images)
    victim = as_defence(defence, images.split(TOGETHER), checked_seed(seed))
    victim.check_images(images)
    fixed = AttackNoise(seed, range(len(images)), fixed=method.fixed)
    batch = Batch(victim, images, torch.as_tensor(labels).to(images.device), fixed)
    with chosen(images.device):
        return audited(batch, method, name, quick=quick)


def named(attack: str) -> Attack:
    """The attack of a name, of the default track.

    Raises:
        UserError: it has no such attack.
    """
    return load_config().part("attack", attack).build()


def of_parts(
    victim: Parts,
    attack: Part,
    images: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    *,
    seed: int,
    device: torch.device,
    quick: bool = False,
) -> Audit:
    """The audit of a track's attack on the defence of a track's parts.

    Args:
        victim: the parts by their roles.
        attack: the attack.
        images: float32 (n, 3, H, W) in [0, 1], two or more.
        labels: int64 (n,).
        indices: of the images in their data set (n,), which select the noise.
        seed: of all draws.
        device: to compute on.
        quick: see `audit`.

    Raises:
        UserError: there are fewer images, or see `audited`.
    """
    check_count(len(images))
    method, defence = attack.build(), Defence.from_parts(victim, seed=seed).to(device)
    x, y = (torch.from_numpy(array).to(device) for array in (images, labels))
    noise = AttackNoise(seed, indices.tolist(), fixed=method.fixed)
    return audited(Batch(defence, x, y, noise), method, attack.name, quick=quick)


def check_count(images: int) -> None:
    """Refuse fewer than two images, of which no share says anything."""
    if images < 2:
        raise UserError(f"an audit takes two images or more, but was given {images}")


def audited(batch: Batch, attack: Attack, name: str, *, quick: bool) -> Audit:
    """The audit of an attack on a batch; `name` is what the attack is called.

    Raises:
        UserError: the victim's answers are no logits, or all wrong, or the attack does not take it.
    """
    attack.ball.check_images(batch.images)
    case = Case(batch, attack, name, quick=quick)
    checks, curves = [], {"loss": [], "eps": [], "eot": []}
    left_out = {"binarization"} if case.random else set()
    names = [n for n in CHECKS if not quick or (n in QUICK and n not in left_out)]
    asked = {name: CHECKS[name] for name in names}
    with Progress(
        "audit", total=len(asked) + 1 + ("unconstrained" in asked), unit="checks"
    ) as progress:
        for one, check in asked.items():
            checks.append(decided(one, lambda check=check: check(case)))
            progress.advance(1)
            if one == "unconstrained":
                checks.append(decided("eps-curve", lambda: with_curve(case, curves)))
                progress.advance(1)
        if checks[0].verdict == "passed" and not quick:
            curves["eot"] = gradients.eot_curve(case)
        progress.advance(1)
    accuracy = {"clean": shares(case, clean=True), "robust": shares(case, clean=False)}
    if accuracy["robust"] is not None:
        curves["loss"] = case.path[2].round(4).tolist()
    count = len(batch.images)
    return Audit(name, count, case.draws, accuracy, tuple(checks), curves)


def with_curve(case: Case, curves: dict[str, list]) -> Check:
    """The check of the curve against eps, which is kept."""
    check, curves["eps"] = budget.eps_curve(case)
    return check


def shares(case: Case, *, clean: bool) -> tuple[float, float, float] | None:
    """The accuracy of a case with its interval; None if its attack cannot run."""
    try:
        right = case.right_clean if clean else case.right_own
    except Undecidable:
        return None
    return float(right.mean()), *wilson(float(right.sum()), len(right))
