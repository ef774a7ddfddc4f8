"""Figure 2: images, where a classifier looks in them (Grad-CAM), and what it answers."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy.special import softmax

from puriflow.own.comparing import CIFAR10, imagenet_names
from puriflow.pictures.figure import Attention
from puriflow.pictures.gradcam import grad_cam
from puriflow.pictures.sources import Sources
from puriflow.progress import Progress
from puriflow.stages.running import each

# Of wrong and of right answers.
COLOURS = {False: "#D55E00", True: "#0072B2"}
MARKS = {False: "\N{BALLOT X}", True: "\N{CHECK MARK}"}


def build(figure: Attention, sources: Sources) -> tuple[list[dict[str, Any]], plt.Figure]:
    """The CSV's rows, one for each line and image, and the drawing."""
    with Progress(figure.source, total=len(sources.lines), unit="lines") as progress:
        answers, maps = {}, {}
        for line in sources.lines:
            images = sources.images(line)
            answers[line.label], maps[line.label] = answer(figure, sources, images)
            progress.advance(1)
    rows = []
    for line in sources.lines:
        own, reference = maps[line.label], maps[figure.reference]
        errors = ((sources.images(line) - sources.clean) ** 2).mean(axis=(1, 2, 3))
        described, note = sources.described(line), sources.note(line)
        for i, index in enumerate(sources.indices):
            row = {**described, "image": int(index), "label": int(sources.labels[i])}
            row |= verdict(answers[line.label][i], int(sources.labels[i]))
            row |= {"mse": errors[i], "target": figure.target}
            row |= {"cam_similarity": similarity(own[i], reference[i]), "note": note}
            rows.append(row)
    return rows, draw(figure, sources, maps, rows)


def answer(
    figure: Attention, sources: Sources, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, classes) and Grad-CAM maps (n, H, W) of images."""
    classifier = sources.part("classifier", figure.classifier)
    with torch.no_grad():
        logits = each(classifier, sources.device, images)
    classes = sources.labels if figure.target == "label" else logits.argmax(1).cpu().numpy()
    maps = each(lambda x, y: grad_cam(classifier, x, y), sources.device, images, classes)
    return logits.cpu().numpy(), maps.cpu().numpy()


def verdict(logits: np.ndarray, label: int) -> dict[str, Any]:
    """What logits (classes,) say: the class, its name, its probability, and whether it is right."""
    predicted = int(logits.argmax())
    probabilities = softmax(logits.astype(np.float64))
    return {
        "predicted": predicted,
        "name": class_names(len(logits))[predicted],
        "confidence": probabilities[predicted],
        "confidence_in_label": probabilities[label],
        "correct": predicted == label,
    }


def class_names(count: int) -> Sequence[str]:
    """Of a classifier of 1000 classes ImageNet's, of 10 CIFAR-10's, else the numbers."""
    if count == 1000:
        return imagenet_names()
    return CIFAR10 if count == len(CIFAR10) else [str(i) for i in range(count)]


def similarity(found: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of the angle between two maps (H, W) that are not negative, 0 to 1; of no map, 0."""
    lengths = np.linalg.norm(found) * np.linalg.norm(reference)
    return float((found * reference).sum() / lengths) if lengths else 0.0


def draw(
    figure: Attention, sources: Sources, maps: dict[str, np.ndarray], rows: list[dict[str, Any]]
) -> plt.Figure:
    """A row for each line; for each image that is shown, itself and Grad-CAM over it."""
    lines = sources.lines
    shown = [i for i in figure.shown if i < len(sources.indices)]
    size = (3.25, 0.98 * len(lines))
    drawn, places = plt.subplots(len(lines), 2 * len(shown), figsize=size, squeeze=False)
    of = {(row["line"], row["image"]): row for row in rows}
    for line, row_of_axes in zip(lines, places, strict=True):
        images = sources.images(line)
        for column, i in enumerate(shown):
            plain, over = row_of_axes[2 * column : 2 * column + 2]
            picture(plain, images[i])
            picture(over, images[i])
            over.imshow(maps[line.label][i], alpha=0.5, vmin=0)
            said = of[line.label, int(sources.indices[i])]
            name = shorten(said["name"], 16, placeholder="...")
            text = f"{MARKS[said['correct']]} {name}, {100 * said['confidence']:.0f} %"
            plain.set_xlabel(text, x=1, color=COLOURS[said["correct"]], fontsize=6)
        row_of_axes[0].set_ylabel(line.label, fontsize=6)
    return drawn


def picture(axes: Axes, image: np.ndarray) -> None:
    """An image (3, H, W) on [0, 1], without axes."""
    axes.imshow(image.clip(0, 1).transpose(1, 2, 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
