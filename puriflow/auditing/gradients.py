"""Is there a gradient, is it the defence's, and do its draws agree with each other?"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from puriflow.attacks.base import GRADIENTS, Batch, cross_entropy, eot_gradient
from puriflow.auditing.case import Case, differentiated, lacks_gradient, needing_gradient
from puriflow.auditing.verdicts import Check, Undecidable, exact
from puriflow.fitting import check_finite
from puriflow.metrics.eot import powers, split_halves

# Steps of a central difference, in L2. The smallest is for what optimises the image, whose loss is
# rough at 1e-4 (float64); the others for what computes in less.
STEPS = (1e-8, 1e-6, 1e-4, 1e-2)
AGREES = 0.01  # relative error
AT_KINKS = 0.1  # of slopes, which may differ
DRAWS = 16  # gradients of an image that are compared with each other
WORD = "audit gradient"  # seeds the victim's noise


def inside(case: Case) -> Tensor:
    """A random point of the ball about each image: at the image itself, pixels may sit on kinks."""
    x, eps = case.batch.images, min(case.ball.eps, 0.03)
    noise = case.batch.noise.attacker("audit inside").uniform_like(x, -eps, eps)
    return (x + noise).clamp(0.001, 0.999)


def graph(case: Case) -> Check:
    """The gradient of the logits reaches the image (Pintor et al.: unavailable gradients).

    One that is NaN reaches nothing: an attack by its sign would stand still.
    """
    name, cure = "graph", "remove what detaches the image (detach, no_grad, numpy), or take BPDA"
    batch, gradient = differentiated(case.batch.take([0]), case.attack)
    x = batch.images.clone().requires_grad_()
    try:
        logits = batch.logits(x, WORD, gradient=gradient)
        (grad,) = torch.autograd.grad(logits.sum(), x, allow_unused=True)
        why = "the logits do not depend on the image by any gradient" if grad is None else ""
        if grad is not None and not grad.isfinite().all():
            share = float((~grad.isfinite()).double().mean())
            why = f"it is NaN or infinite in {100 * share:.3g} % of pixels"
            cure = "mend what has no derivative there (a root or a norm of 0, a quotient by 0)"
    except RuntimeError as error:
        why = " ".join(str(error).split())[:120]
    said = f"no gradient reaches the image: {why}" if why else "a gradient reaches the image"
    return exact(name, float(bool(why)), 0, said, cure)


def zero(case: Case) -> Check:
    """The gradient of the attack's loss is not exactly zero (unavailable gradients, too)."""
    name = "zero-gradient"
    grads = mean_gradient(case, inside(case), case.eot_iter)
    none = int((grads.flatten(1).abs().amax(1) == 0).sum())
    said = f"the cross-entropy's gradient is exactly zero for {none} of {len(grads)} images"
    cure = "differentiate rounding and steps as the identity (BPDA), or take another loss"
    return exact(name, none / len(grads), 0, said, cure)


def finite_differences(case: Case) -> Check:
    """The gradient is the slope of the margin at the same noise, by central differences."""
    name = "finite-differences"
    if not case.repeatable:
        raise Undecidable(
            "the defence's noise cannot be repeated", "draw it from torch's generator"
        )
    x, singles = inside(case), range(min(3, len(case.batch.images)))
    ones = [replace(case.batch.take([i]), images=x[i : i + 1]) for i in singles]
    with needing_gradient():
        try:
            defence = copy.deepcopy(case.batch.victim).double()
            doubles = [replace(one, victim=defence, images=one.images.double()) for one in ones]
            errors = by_step(doubles, case)
        except RuntimeError as error:
            if lacks_gradient(error) or "type" not in str(error):
                raise
            errors = by_step(ones, case)
    step, disagree = min(
        ((h, float((e > AGREES).double().mean())) for h, e in errors.items()),
        key=lambda pair: pair[1],
    )
    said = (
        f"{100 * disagree:.0f} % of {errors[step].numel()} slopes differ from differences of "
        f"{step:g} by more than 1 % (median {float(errors[step].median()):.1g})"
    )
    return exact(name, disagree, AT_KINKS, said, case.exact_gradient())


def by_step(ones: list[Batch], case: Case) -> dict[float, Tensor]:
    """Relative errors (slopes,) of the gradient of single images, by the step of the differences.

    Larger steps are tried until one agrees.
    """
    aims, errors = [aim(one, case) for one in ones], {}
    for h in STEPS:
        found = [off(one, *aimed, h) for one, aimed in zip(ones, aims, strict=True)]
        errors[h] = torch.cat(found).flatten()
        if (errors[h] > AGREES).double().mean() <= AT_KINKS:
            break
    return errors


def aim(batch: Batch, case: Case) -> tuple[Tensor, list[Tensor]]:
    """The gradient of an image, and the directions in which it is held against differences.

    They are the gradient, and it half way to random ones, so that no slope is small.
    """
    given, gradient = differentiated(batch, case.attack)
    x = batch.images
    y = x.clone().requires_grad_()
    loss = margin(given.logits(y, WORD, gradient=gradient), batch.labels)
    (grad,) = torch.autograd.grad(loss.sum(), y)
    check_finite(grad, GRADIENTS)
    ahead = unit(grad)
    sideways = [unit(batch.noise.attacker(f"audit direction {i}").normal_like(x)) for i in range(2)]
    return grad, [ahead, *(unit(ahead + other) for other in sideways)]


@torch.no_grad()
def off(batch: Batch, grad: Tensor, directions: list[Tensor], h: float) -> Tensor:
    """Relative errors (directions, n) of slopes by the gradient against differences of a step h."""
    x, rows = batch.images, []
    for v in directions:
        up, down = (margin(batch.logits(x + side * h * v, WORD), batch.labels) for side in (1, -1))
        by_difference = (up - down) / (2 * h)
        slope = (grad * v).flatten(1).sum(1)
        size = torch.maximum(slope.abs(), by_difference.abs()).clamp(min=1e-30)
        rows.append((slope - by_difference).abs() / size)
    return torch.stack(rows)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the label's logit is above the next (N,): it does not saturate."""
    z_y = logits.gather(1, labels[:, None])[:, 0]
    return z_y - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def unit(x: Tensor) -> Tensor:
    """Each image at L2 length 1."""
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None, None]


def mean_gradient(case: Case, x: Tensor, count: int, first: int = 0) -> Tensor:
    """The mean over draws of the gradient of each image's cross-entropy, as the attack has it."""
    batch, gradient = differentiated(case.batch, case.attack)

    def loss_and_logits(y: Tensor, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
        logits = batch.logits(y, WORD, [first + draw for draw in draws], gradient)
        return cross_entropy(logits, batch.labels.repeat(len(draws))), logits

    with needing_gradient():
        return eot_gradient(loss_and_logits, x, count)[1]


def eot_curve(case: Case) -> list[dict[str, float]]:
    """Cosines between the mean of K gradients and that of K others, by K; empty if none is random.

    Of each image one gradient at a random point of the ball; the mean over images and halves.
    """
    if not case.random:
        return []
    x = inside(case)[:3]
    part = copy.copy(case)
    part.batch = case.batch.take(range(len(x)))
    draws = (mean_gradient(part, x, 1, draw).cpu().numpy() for draw in range(DRAWS))
    cosines = split_halves(draws).mean(0)
    return [
        {"draws": k, "cosine": float(c)} for k, c in zip(powers(DRAWS // 2), cosines, strict=True)
    ]
