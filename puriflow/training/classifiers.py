"""Train a classifier of small images, on clean ones or on PGD's (Madry et al. 2018)."""

import torch
from pydantic import BaseModel, model_validator
from torch import Tensor
from torch.nn import functional as F

from puriflow.attacks.ball import Ball
from puriflow.classifiers.normalised import Normalised
from puriflow.errors import UserError
from puriflow.options import Count, Length, Step, check_ball, check_step, fraction
from puriflow.randomness import MEASURE_CLASSIFIER, ImageNoise
from puriflow.training.card import table
from puriflow.training.labelled import Labelled
from puriflow.training.trainer import Predict, Recipe, Run, train

ATTACKED = 1000  # test images that are attacked when a classifier is measured


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
    """A recipe, and the adversary where the classifier is adversarially trained."""

    images: str = "cifar10"
    adversary: Adversary | None = None


def train_classifier(
    classifier: Normalised, data: Labelled, recipe: ClassifierRecipe, run: Run
) -> float:
    """Train the network of `classifier`, in place; returns the seconds that it took."""
    device = next(classifier.parameters()).device

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        def logits(x: Tensor) -> Tensor:
            answers = predict(classifier.normalise(x)).float()
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
    images, labels = data.test
    adversary = (recipe.adversary or Adversary()).model_copy(update={"n_iter": 20})
    chosen = torch.arange(0, len(images), max(len(images) // ATTACKED, 1))[:ATTACKED]
    clean = attacked_right = 0
    for part in chosen.split(250):
        x, y = images[part].to(device).float() / 255, labels[part].to(device)
        start = ImageNoise(0, MEASURE_CLASSIFIER, part.tolist()).uniform_like(x, -1, 1)
        x = attacked(classifier, x, y, adversary, start)
        attacked_right += int((classifier(x).argmax(1) == y).sum())
    for x, y in zip(images.split(250), labels.split(250), strict=True):
        clean += int((classifier(x.to(device).float() / 255).argmax(1).cpu() == y).sum())
    counts = {"clean": (clean, len(images)), "attacked": (attacked_right, len(chosen))}
    return table(
        f"Right answers on test images; attacked by PGD-20 within {adversary.eps}, "
        f"step {adversary.step_size}:",
        ("images", "n", "accuracy"),
        ((which, str(n), f"{100 * right / n:.2f} %") for which, (right, n) in counts.items()),
    )
