"""Is any attack that knows less than the evaluation's own stronger than it?"""

from dataclasses import replace

import torch

from puriflow.attacks.pgd import PGD
from puriflow.attacks.square import Square
from puriflow.auditing.case import Case, option
from puriflow.auditing.gradients import margin
from puriflow.auditing.modules import stands_alone
from puriflow.auditing.verdicts import Check, Undecidable, exact, no_stronger
from puriflow.defence import Defence

CURE = "the gradient is masked or wrong: see `finite-differences`, or take this attack as well"
TRIES, QUERIES = 50, 100


def plain(case: Case, n_iter: int, **options: object) -> PGD:
    """PGD in the ball of the attack."""
    ball, size = case.ball, case.batch.images[0].numel()
    step = ball.eps / 4 if ball.norm == "Linf" else ball.eps / (4 * size**0.5)
    return PGD(ball, step, n_iter, random_start=ball.norm == "Linf", **options)  # pyrefly: ignore


def blind(case: Case) -> Check:
    """Images made on the classifier alone, transferred."""
    name, victim = "blind", case.batch.victim
    if stands_alone(victim):
        return exact(name, 0, 0, "nothing is known in front of the classifier", "")
    alone = replace(case.batch, victim=Defence(None, None, victim.classifier))
    right = case.right_under(plain(case, 20), alone)
    return no_stronger(name, case.right_own, right, "PGD on the classifier alone", CURE)


def transfer(case: Case) -> Check:
    """Images made through the identity in place of restorer and purifier (BPDA)."""
    name = "transfer"
    if stands_alone(case.batch.victim):
        return exact(name, 0, 0, "nothing is known in front of the classifier", "")
    n_iter = option(case.attack, "n_iter") or 10
    bpda = plain(case, n_iter, eot_iter=case.eot_iter, gradient="identity")
    said = "PGD that takes the defence for the identity"
    return no_stronger(name, case.right_own, case.right_under(bpda), said, CURE)


@torch.no_grad()
def random_search(case: Case) -> Check:
    """Random points of the ball and its corners, of which the one of the lowest margin counts."""
    own, batch, eps = case.right_own, case.batch, case.ball.eps
    best, lowest = batch.images, torch.full_like(batch.images[:, 0, 0, 0], torch.inf)
    for i in range(2 * TRIES):
        noise = batch.noise.attacker(f"audit search {i}").uniform_like(batch.images, -eps, eps)
        delta = noise if i % 2 else eps * noise.sign()
        x = case.ball.project(batch.images + delta, batch.images)
        margins = margin(batch.logits(x, "audit search", (i,)), batch.labels)
        best = torch.where((margins < lowest)[:, None, None, None], x, best)
        lowest = torch.minimum(margins, lowest)
    said = f"the best of {2 * TRIES} random points"
    return no_stronger("random-search", own, case.right(best), said, CURE)


def square(case: Case) -> Check:
    """Square, which has no gradient, within a hundred queries."""
    if case.ball.norm != "Linf":
        raise Undecidable("Square is for Linf")
    own = case.right_own
    right = case.right_under(Square(case.ball, n_queries=QUERIES))
    return no_stronger("square", own, right, f"Square of {QUERIES} queries", CURE)


def robust_above_clean(case: Case) -> Check:
    """The attack does not help the defence."""
    said, cure = "no attack at all", "the attack works against itself: another gradient or loss"
    return no_stronger("robust-above-clean", case.right_own, case.right_clean, said, cure)
