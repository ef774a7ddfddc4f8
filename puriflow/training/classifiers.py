"""Train a classifier of small images, on clean ones or on PGD's (Madry et al. 2018)."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from puriflow.classifiers.normalised import Normalised
from puriflow.randomness import ImageNoise
from puriflow.training.labelled import Labelled
from puriflow.training.trainer import Predict, Recipe, Run, train


class Adversary(BaseModel):
    """The PGD of adversarial training; eps and step are fractions of 255."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eps: float = 8
    step: float = 2
    steps: int = 7


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
            return predict(classifier.normalise(x)).float()

        images, labels = data.batch(recipe.batch, generator)
        images = images.to(device, memory_format=torch.channels_last)
        labels = labels.to(device)
        if recipe.adversary is not None:
            draw = torch.empty(images.shape).uniform_(-1, 1, generator=generator).to(device)
            images = attacked(logits, images, labels, recipe.adversary, draw)
        return F.cross_entropy(logits(images), labels)

    classifier.network, seconds = train(classifier.network, loss, recipe, run)
    return seconds


def attacked(
    logits: Predict, images: Tensor, labels: Tensor, adversary: Adversary, draw: Tensor
) -> Tensor:
    """PGD within Linf eps and [0, 1] on a whole batch; `draw` in [-1, 1] is where it starts.

    This is what a classifier is trained on. Evaluation uses puriflow.attacks.
    """
    eps, step = adversary.eps / 255, adversary.step / 255
    x = (images + eps * draw).clamp(0, 1)
    for _ in range(adversary.steps):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits(x), labels), x)
        x = x.detach() + step * gradient.sign()
        x = (images + (x - images).clamp(-eps, eps)).clamp(0, 1)
    return x


def measure_classifier(
    classifier: Normalised, data: Labelled, adversary: Adversary, count: int = 1000
) -> dict[str, tuple[int, int]]:
    """Right answers and images asked: on all test images, and on `count` of them attacked.

    The attacked ones are evenly spaced; the attack is the adversary's PGD with 20 steps.
    """
    device = next(classifier.parameters()).device
    images, labels = data.test
    longer = adversary.model_copy(update={"steps": 20})
    chosen = torch.arange(0, len(images), max(len(images) // count, 1))[:count]
    right = {"clean": 0, "attacked": 0}
    for part in chosen.split(250):
        x, y = images[part].to(device).float() / 255, labels[part].to(device)
        draw = ImageNoise(0, "measure-classifier", part.tolist()).uniform_like(x, -1, 1)
        x = attacked(classifier, x, y, longer, draw)
        right["attacked"] += int((classifier(x).argmax(1) == y).sum())
    for x, y in zip(images.split(250), labels.split(250), strict=True):
        answer = classifier(x.to(device).float() / 255).argmax(1).cpu()
        right["clean"] += int((answer == y).sum())
    return {"clean": (right["clean"], len(images)), "attacked": (right["attacked"], len(chosen))}
