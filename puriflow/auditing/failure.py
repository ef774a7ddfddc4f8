"""Indicators of attack failure (Pintor et al. 2022), but for unavailable gradients (gradients.py).

All lie in [0, 1], and 0 is good.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from puriflow.attacks.base import Batch
from puriflow.auditing.case import Case, changed, differentiated
from puriflow.auditing.gradients import margin
from puriflow.auditing.verdicts import TOLERATED, Check, Interval, exact, few, no_stronger, settled
from puriflow.defence import Defence
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.paired import student_interval

DIRECTIONS = 100
UNSTABLE = 0.5  # mean relative change of the margin
RISING = 0.05  # of the range of a loss path
LAST = 10  # steps


@torch.no_grad()
def unstable_predictions(case: Case) -> Check:
    """The margin, as the attack sees it, hardly changes by random noise of the ball's radius.

    As the attack sees it: the mean over as many draws as its gradients have.
    """
    some = case.few()
    batch, draws = some.batch, case.eot_iter if case.random else 1
    x, eps = batch.images, case.ball.eps
    if case.ball.norm == "L2":
        eps *= (3 / x[0].numel()) ** 0.5
    count = max(10, DIRECTIONS // draws)

    def seen(images: torch.Tensor, number: int) -> torch.Tensor:
        numbers = range(number * draws, (number + 1) * draws)
        logits = batch.logits(images, "audit unstable", numbers)
        margins = margin(logits, batch.labels.repeat(draws))
        return margins.unflatten(0, (draws, -1)).mean(0)

    at = seen(x, 0)

    def change(images: torch.Tensor, number: int) -> torch.Tensor:
        return ((seen(images, number) - at).abs() / at.abs().clamp(min=1e-12)).clamp(max=1)

    moved, still = [], []
    for i in range(count):
        noise = batch.noise.attacker(f"audit unstable {i}").uniform_like(x, -eps, eps)
        moved.append(change((x + noise).clamp(0, 1), i + 1))
        if case.random:
            still.append(change(x, i + 1))
    values = torch.stack(moved).mean(0).double().cpu().numpy()
    said = f"the margin changes by {100 * values.mean():.0f} % in random directions"
    if still:
        said += f", and by {100 * float(torch.stack(still).mean()):.0f} % by its draws alone"
    low, high = student_interval(values)
    cure = f"average over more draws: {case.larger(draws=2)}"
    value, interval = float(values.mean()), (max(low, 0.0), min(high, 1.0))
    check = Check("unstable-predictions", "passed", value, interval, said, cure)
    return settled(check, bad=value > UNSTABLE, beyond_chance=low > UNSTABLE)


def silent_success(case: Case) -> Check:
    """The attack returns the best image of its path, judged by fresh draws."""
    own, best = case.right_own, case.right(case.path[1])
    if case.random:
        cure = "return the image that fooled most draws: kind apgd or bpda-eot"
        return no_stronger("silent-success", own, best, "the best images of its path", cure)
    lost = int((best < own).sum())
    said = f"on the paths of {lost} of {len(own)} images was an adversarial one, not returned"
    cure = "return the best point, not the last: kind apgd"
    return exact("silent-success", lost / len(own), 0, said, cure)


def incomplete_optimisation(case: Case) -> Check:
    """Where images are still right, the loss has stopped rising by the end of the path."""
    losses = case.path[2]
    reach = np.ptp(losses, axis=1)
    best = np.maximum.accumulate(
        (losses - losses.min(1, keepdims=True)) / np.maximum(reach, 1e-12)[:, None], axis=1
    )
    last = max(1, min(math.ceil(LAST / case.every_of(case.attack)), losses.shape[1] // 2))
    rises = (best[:, -1] - best[:, -1 - last] > RISING) & (reach > 0)
    left = case.right_own * rises
    said = (
        f"of {len(left)} images, those still right whose loss rises in the last {last} of the "
        f"{losses.shape[1] - 1} points of the path"
    )
    cure = f"more iterations: {case.larger(iterations=2)}"
    return few("incomplete-optimisation", float(left.sum()), len(left), 0.1, said, cure)


def transfer_failure(case: Case) -> Check:
    """What fools the model that is differentiated fools the defence as well."""
    name, (batch, gradient) = "transfer-failure", differentiated(case.batch, case.attack)
    if gradient == "blind":
        victim = batch.victim
        batch = replace(batch, victim=Defence(None, None, victim.classifier))
    if batch is case.batch:
        return exact(name, 0, 0, "the answers that are differentiated are the defence's own", "")
    fooled = 1 - case.right(case.own, batch)
    only = fooled * case.right_own
    total = max(float(fooled.sum()), 1e-12)
    said = (
        f"of {fooled.sum():.1f} images that fool what is differentiated, those that fool it alone"
    )
    cure = f"differentiate the defence: {case.cure(gradient='full')}"
    value = float(only.sum()) / total
    interval: Interval = wilson(min(only.sum(), total), max(round(total), 1))
    check = Check(name, "passed", value, interval, said, cure)
    return settled(check, bad=value > 0.1, beyond_chance=interval[0] > 0.1)


def unconstrained(case: Case) -> Check:
    """With no bound on eps the attack leaves no image right."""
    case.check_bands()
    _ = case.own
    far = largest_eps(case.batch, case.ball.norm, unbounded=True)
    best = case.watched(changed(case.attack, eps=far))[1]
    right = case.right(best)
    said = f"images that stay right within {case.ball.norm} {far:.3g}, where all images lie"
    cure = "another loss, more steps or a larger step size; or the gradient is masked"
    return few("unconstrained", float(right.sum()), len(right), TOLERATED, said, cure)


def largest_eps(batch: Batch, norm: str, *, unbounded: bool = False) -> float:
    """A radius within which lies grey, or (in Linf, unbounded) every image."""
    if norm == "Linf":
        return 1.0 if unbounded else 0.5
    return min(0.999 * batch.images[0].numel() ** 0.5 / 2, 50)
