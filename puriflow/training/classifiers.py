"""Train a classifier of small images, on clean ones or on PGD's (Madry et al. 2018).

A defence that needs a classifier of its own, as ME-Net does, stands before it while it is trained;
an attack then sees the identity in its place.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel, model_validator
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.ball import Ball
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError
from puriflow.options import Count, Length, Step, check_ball, check_step, fraction
from puriflow.randomness import MEASURE_CLASSIFIER, MEASURE_DENOISER, TRAIN, ImageNoise
from puriflow.registry import part_of
from puriflow.straight_through import straight_through
from puriflow.training.card import table
from puriflow.training.labelled import Labelled
from puriflow.training.trainer import Predict, Recipe, Run, train

ATTACKED = 1000  # test images that are attacked when a classifier is measured
BEHIND = MEASURE_DENOISER.format("behind")  # the noise of what stands before one
Before = Callable[[Tensor, ImageNoise], Tensor]  # from images to what the classifier is given


class Adversary(BaseModel, extra="forbid", frozen=True):
    """The PGD of adversarial training, in Linf; `eps` and `step_size` as those of an attack."""

    eps: Length = "8/255"
    step_size: Step = "2/255"
    n_iter: Count = 7

    @model_validator(mode="after")
    def _in_the_ball(self) -> "Adversary":
        check_ball(fraction(self.eps), "Linf")
        check_step(fraction(self.step_size), fraction(self.eps), "Linf")
        return self


class ClassifierRecipe(Recipe):
    """A recipe, the adversary of adversarial training, and the purifier in front."""

    images: str = "cifar10"
    start: str | None = None  # the classifier from whose weights it goes on
    adversary: Adversary | None = None
    behind: dict[str, Any] | None = None  # kind and options of a purifier without a network

    @model_validator(mode="after")
    def _behind(self) -> "ClassifierRecipe":
        for option in {"network", "weights"} & {*(self.behind or {})}:
            raise ValueError(f"behind has {option}, but must be a purifier that needs no network")
        return self

    @property
    def modules(self) -> list[str]:
        """The modules of parts that the recipe names."""
        return [] if self.behind is None else part_of("purifier", "behind", self.behind).modules()


def train_classifier(
    classifier: Normalised, data: Labelled, recipe: ClassifierRecipe, run: Run
) -> float:
    """Train the network of `classifier`, in place; returns the seconds that it took."""
    device = next(classifier.parameters()).device
    before = purified_by(recipe.behind, device)

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        noise = ImageNoise(0, TRAIN, ())
        if recipe.behind is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            noise = ImageNoise(seed, TRAIN, range(recipe.batch))

        def logits(x: Tensor) -> Tensor:
            answers = predict(classifier.normalise(before(x, noise))).float()
            if answers.shape[1] != len(data.classes):
                raise UserError(
                    f"the classifier has {answers.shape[1]} classes, but the images in "
                    f"{data.folder} have {len(data.classes)}"
                )
            return answers

        images, labels = data.batch(recipe.batch, generator)
        images = images.to(device, memory_format=torch.channels_last)
        labels = labels.to(device)
        if recipe.adversary is not None:
            start = torch.empty(images.shape).uniform_(-1, 1, generator=generator).to(device)
            images = attacked(logits, images, labels, recipe.adversary, start)
        return F.cross_entropy(logits(images), labels)

    classifier.network, seconds = train(classifier.network, loss, recipe, run)
    return seconds


def purified_by(entry: dict[str, Any] | None, device: torch.device) -> Before:
    """What stands before a classifier, with the identity as its gradient; nothing for None.

    Raises:
        UserError: the entry is none of a purifier.
    """
    if entry is None:
        return lambda x, noise: x
    purifier = part_of("purifier", "behind", entry).build().to(device)
    return lambda x, noise: straight_through(lambda y: purifier(y, noise), x)


def attacked(
    logits: Predict, images: Tensor, labels: Tensor, adversary: Adversary, start: Tensor
) -> Tensor:
    """PGD in an Linf ball on a whole batch, begun at `start` in [-1, 1] of its eps.

    This is what a classifier is trained on, in the training's precision; attacks/pgd.py is for
    evaluation, and takes the same steps.
    """
    ball, step_size = Ball(fraction(adversary.eps)), fraction(adversary.step_size)
    x = (images + ball.eps * start).clamp(0, 1)
    for _ in range(adversary.n_iter):
        x.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(logits(x), labels), x)
        x = ball.sign_step(x.detach(), grad, step_size, images)
    return x


def measure_classifier(
    classifier: Normalised, data: Labelled, recipe: ClassifierRecipe
) -> list[str]:
    """For the card: right answers on all test images, and on ATTACKED of them, evenly spaced.

    The attack is the adversary's PGD with 20 iterations.
    """
    device = next(classifier.parameters()).device
    before = purified_by(recipe.behind, device)
    images, labels = data.test
    adversary = (recipe.adversary or Adversary()).model_copy(update={"n_iter": 20})
    chosen = torch.arange(0, len(images), max(len(images) // ATTACKED, 1))[:ATTACKED]
    clean = attacked_right = 0
    for part in chosen.split(250):
        x, y = images[part].to(device).float() / 255, labels[part].to(device)
        start = ImageNoise(0, MEASURE_CLASSIFIER, part.tolist()).uniform_like(x, -1, 1)
        noise = ImageNoise(0, BEHIND, part.tolist())
        x = attacked(lambda x, n=noise: classifier(before(x, n)), x, y, adversary, start)
        attacked_right += int((classifier(before(x, noise)).argmax(1) == y).sum())
    for part in torch.arange(len(images)).split(250):
        x = before(images[part].to(device).float() / 255, ImageNoise(0, BEHIND, part.tolist()))
        clean += int((classifier(x).argmax(1).cpu() == labels[part]).sum())
    counts = {"clean": (clean, len(images)), "attacked": (attacked_right, len(chosen))}
    through = (
        "" if recipe.behind is None else ", through the identity in place of what is before it"
    )
    return table(
        f"Right answers on test images; attacked by PGD-20 within {adversary.eps}, "
        f"step {adversary.step_size}{through}:",
        ("images", "n", "accuracy"),
        ((which, str(n), f"{100 * right / n:.2f} %") for which, (right, n) in counts.items()),
    )
