"""When an attack counts an image as broken: by one pass of the victim, or by the vote of several.

auto-attack believes the one pass that it happens to make. A random victim that is asked a hundred
times is wrong once by chance, so here a wrong answer can be put to a vote of fresh draws.
"""

import torch
from torch import Tensor

from puriflow.attacks.attack import Target, none_asked
from puriflow.defence import Gradient


@torch.no_grad()
def confirmed(
    target: Target, x: Tensor, wrong: Tensor, step: str, votes: int, gradient: Gradient = "full"
) -> tuple[Tensor, Tensor]:
    """Which wrong answers stand.

    Args:
        target: a victim and images.
        x: (N, 3, H, W) in place of the images.
        wrong: (N,) bool, what one pass found.
        step: a word for the draws.
        votes: fresh draws, of which more than half must be wrong; with 1, the pass is believed.
        gradient: `blind` asks the classifier alone; see `Defence.purified`.

    Returns:
        The wrong answers that stand (N,), and how often each image was asked (N,).
    """
    asked = none_asked(x)
    doubtful = torch.nonzero(wrong).flatten()
    if votes == 1 or len(doubtful) == 0:
        return wrong, asked
    part = target.take(doubtful.tolist())
    against = none_asked(part.images)
    for draw in range(votes):
        answer = part.logits(x[doubtful], f"{step} votes", draw, gradient).argmax(1)
        against += answer != part.labels
    stands = wrong.index_copy(0, doubtful, 2 * against > votes)
    return stands, asked.index_fill(0, doubtful, votes)


@torch.no_grad()
def judged(
    target: Target, x: Tensor, step: str, votes: int, gradient: Gradient = "full"
) -> tuple[Tensor, Tensor, Tensor]:
    """One fresh pass over x, its wrong answers confirmed.

    Returns:
        Logits (N, classes) of the pass, and what `confirmed` returns, the pass counted.
    """
    logits = target.logits(x, step, 0, gradient)
    wrong = logits.argmax(1) != target.labels
    stands, asked = confirmed(target, x, wrong, step, votes, gradient)
    return logits, stands, asked + 1
