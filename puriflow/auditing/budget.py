"""Does the number move with eps as it must, and with a larger budget as it must not?"""

from typing import Any

import numpy as np

from puriflow.attacks.pgd import PGD
from puriflow.auditing.case import Case, changed, option
from puriflow.auditing.failure import largest_eps
from puriflow.auditing.verdicts import TOLERATED, Check, exact, few, no_stronger, settled
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.paired import compare

REACHED = 0.9  # of the successes of ten times the budget


def eps_curve(case: Case) -> tuple[Check, list[dict[str, float]]]:
    """Accuracy against eps falls to 0 at a radius within which all images turn to grey."""
    case.check_bands()
    own, far = case.ball.eps, largest_eps(case.batch, case.ball.norm)
    radii = sorted({0.0, own, *(eps for eps in (2 * own, 4 * own) if eps < far), far})
    right: dict[float, np.ndarray] = {0.0: case.right_clean, own: case.right_own}
    for eps in radii:
        if eps not in right:
            right[eps] = case.right_under(changed(case.attack, eps=eps))
    rows: list[dict[str, Any]] = []
    for eps in radii:
        low, high = wilson(float(right[eps].sum()), len(right[eps]))
        rows.append({"eps": eps, "accuracy": float(right[eps].mean()), "low": low, "high": high})
    path = ", ".join(f"{100 * row['accuracy']:.0f} at {row['eps']:.2g}" for row in rows)
    last = right[radii[-1]]
    cure = "look for masked gradients: try `blind`, `square` and another loss"
    said = f"accuracy in % against eps, which must fall to 0: {path}"
    return few("eps-curve", float(last.sum()), len(last), TOLERATED, said, cure), rows


def iterations_doubled(case: Case) -> Check:
    """Twice the iterations leave the accuracy as it is."""
    right = case.right_under(changed(case.attack, iterations=2))
    cure = f"more iterations: {case.larger(iterations=2)}"
    return no_stronger("iterations-doubled", case.right_own, right, "twice the iterations", cure)


def eot_doubled(case: Case) -> Check:
    """Twice the draws of a gradient leave the accuracy as it is."""
    name = "eot-doubled"
    if not case.random:
        return exact(name, 0, 0, "nothing is random: a gradient has no draws", "")
    if not option(case.attack, "eot_iter"):
        return exact(name, 0, 0, "the attack averages no draws", "")
    right = case.right_under(changed(case.attack, draws=2))
    cure = f"more draws: {case.larger(draws=2)}"
    return no_stronger(name, case.right_own, right, "twice the draws of a gradient", cure)


def tenfold(case: Case) -> Check:
    """On a few images the attack reaches 0.9 of the successes of ten times its budget."""
    name, some = "tenfold-budget", case.few()
    count = len(some.batch.images)
    own = case.right_own[:count]
    iterations, draws = (5, 2) if case.random and option(case.attack, "eot_iter") else (10, 1)
    right = some.right_under(changed(case.attack, iterations=iterations, draws=draws))
    successes = float((1 - right).sum())
    said = (
        f"successes over those of {iterations} x the iterations and {draws} x the draws "
        f"({count - own.sum():.1f} of {successes:.1f} on {count} images)"
    )
    if successes == 0:
        return exact(name, 0, 0, f"{said}: neither finds any", "")
    paired = compare(own, right)
    low, high = (1 - bound * count / successes for bound in paired.interval[::-1])
    value = float((1 - own).sum()) / successes
    cure = f"a larger budget: {case.larger(iterations=iterations, draws=draws)}"
    check = Check(name, "passed", value, (float(low), float(high)), said, cure)
    return settled(check, bad=value < REACHED, beyond_chance=paired.interval[0] > 0)


def one_step(case: Case) -> Check:
    """A single step as long as the ball's radius (FGSM) is no stronger than the attack."""
    if case.ball.norm != "Linf":
        return exact("one-step", 0, 0, "a step of signs is for Linf", "")
    fgsm = PGD(case.ball, case.ball.eps, 1, random_start=False, eot_iter=case.eot_iter)
    right = case.right_under(fgsm)
    cure = "shorter steps, more of them: the attack overshoots, or its gradient is noise"
    return no_stronger("one-step", case.right_own, right, "one step (FGSM)", cure)
