"""Does the defence draw fresh noise, and does an image's answer depend on that image alone?"""

import torch
from torch import Tensor

from puriflow.auditing.case import Case
from puriflow.auditing.modules import Draws, Whole
from puriflow.auditing.verdicts import Check, exact

MOST_CHANGE = 0.01  # of the range of an image's logits: far above rounding


def fresh(case: Case) -> Check:
    """A defence that draws noise gives other answers for other draws: no seed is hidden in it."""
    with torch.no_grad(), Draws() as drawn:
        case.batch.take([0]).logits(case.batch.images[:1], "audit fresh")
    hidden = drawn.count > 0 and not case.random and not case.attack.fixed
    if hidden:
        said = "random numbers are drawn, and yet two draws give the same logits: a hidden seed"
    elif not case.random:
        said = "nothing is drawn: the defence is deterministic"
    elif not case.repeatable:
        said = "two answers differ; the noise cannot be repeated by a seed"
    else:
        said = "two draws give other logits, and the same draw the same"
    cure = "draw the noise from what is given (ImageNoise), or from torch's generator unseeded"
    return exact("fresh-noise", float(hidden), 0, said, cure)


@torch.no_grad()
def mates(case: Case) -> Check:
    """An image is answered as when its batch mates are others, or not there."""
    batch = case.batch.take(range(min(4, len(case.batch.images))))
    x, victim = batch.images, batch.victim
    changes = []
    if isinstance(victim.purifier, Whole):  # whose noise belongs to the batch
        drawing = victim.purifier

        def answers(images: Tensor, chosen: list[int]) -> Tensor:
            return drawing.together(images, victim.seed)
    else:

        def answers(images: Tensor, chosen: list[int]) -> Tensor:
            return batch.take(chosen).logits(images, "audit mates")

    everyone = list(range(len(x)))
    whole = answers(x, everyone)
    reach = (whole.amax(1) - whole.amin(1)).clamp(min=1e-12)
    for i in everyone:
        others = 1 - x
        others[i] = x[i]
        found = [answers(others, everyone)[i]]
        if not isinstance(victim.purifier, Whole):
            found.append(answers(x[i : i + 1], [i])[0])
        changes += [float((one - whole[i]).abs().max() / reach[i]) for one in found]
    most = max(changes) if case.repeatable else 0.0
    said = f"other batch mates, or none, change logits by {100 * most:.2g} % of their range"
    cure = "compute each image by itself: no statistics, norms or losses over the batch"
    return exact("batch-mates", most, MOST_CHANGE, said, cure)
