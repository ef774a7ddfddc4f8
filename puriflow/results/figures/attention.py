"""Figure 2: images, where a classifier looks in them (Grad-CAM), and what it answers."""

from textwrap import shorten
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy.special import softmax

from puriflow.datasets.names import class_names
from puriflow.plots.style import RIGHT, WRONG
from puriflow.progress import Progress
from puriflow.results.figures.base import Attention
from puriflow.results.figures.built import Built
from puriflow.results.figures.gradcam import grad_cam
from puriflow.results.figures.sources import Sources
from puriflow.stages.base import each

COLOURS = {False: WRONG, True: RIGHT}
MARKS = {False: "\N{BALLOT X}", True: "\N{CHECK MARK}"}
METRICS = ("cam_similarity", "mse", "confidence_in_label", "correct")  # the values of an image


def build(figure: Attention, sources: Sources) -> Built:
    """Rows of the CSV are one for each line and image.

    Raises:
        UserError: the classifier has no feature map, or an image that is shown is not there.
    """
    sources.check_shown()
    with Progress(figure.source, total=len(sources.lines), unit="lines") as progress:
        answers, maps = {}, {}
        for line in sources.lines:
            images = sources.images(line)
            answers[line.label], maps[line.label] = answer(figure, sources, images)
            progress.advance(1)
    rows = []
    for line in sources.lines:
        own, reference = maps[line.label], maps[figure.reference]
        errors = sources.errors(line)
        described, note = sources.described(line), sources.note(line)
        for i, index in enumerate(sources.indices):
            row = {**described, "image": int(index), "label": int(sources.labels[i])}
            row |= verdict(answers[line.label][i], int(sources.labels[i]))
            row |= {"mse": errors[i], "target": figure.target}
            row |= {"cam_similarity": similarity(own[i], reference[i]), "note": note}
            rows.append(row)
    values = [
        {"line": row["line"], "index": row["image"], "metric": metric, "value": float(row[metric])}
        for row in rows
        for metric in METRICS
    ]
    return Built(rows, values, draw(figure, sources, maps, rows))


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


def similarity(found: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of the angle between two maps (H, W) that are not negative, 0 to 1; of no map, 0."""
    lengths = np.linalg.norm(found) * np.linalg.norm(reference)
    return float((found * reference).sum() / lengths) if lengths else 0.0


def draw(
    figure: Attention, sources: Sources, maps: dict[str, np.ndarray], rows: list[dict[str, Any]]
) -> plt.Figure:
    """A row for each line; for each image that is shown, itself and Grad-CAM over it."""
    lines = sources.lines
    size = (3.25, 0.98 * len(lines))
    drawn, places = plt.subplots(len(lines), 2 * len(figure.shown), figsize=size, squeeze=False)
    of = {(row["line"], row["image"]): row for row in rows}
    for line, row_of_axes in zip(lines, places, strict=True):
        images = sources.images(line)
        for column, i in enumerate(figure.shown):
            plain, over = row_of_axes[2 * column : 2 * column + 2]
            picture(plain, images[i])
            picture(over, images[i])
            heat(over, maps[line.label][i], maps[figure.reference][i].max())
            said = of[line.label, int(sources.indices[i])]
            name = shorten(said["name"], 14, placeholder="...")
            text = f"{MARKS[said['correct']]} {name}, {100 * said['confidence']:.0f} %"
            plain.set_xlabel(text, x=1, color=COLOURS[said["correct"]])
        row_of_axes[0].set_ylabel(line.label.replace(", ", ",\n"))
    return drawn


def heat(axes: Axes, found: np.ndarray, top: float) -> None:
    """A map (H, W) over an image: the less there is of it, the more is seen of the image.

    Colour and opacity end at `top`, the reference's maximum, so that one image's maps compare.
    """
    if not found.any():
        box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1}
        middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no\nactivation", color="white", bbox=box, **middle)
        return
    top = top or found.max()
    axes.imshow(found, vmin=0, vmax=top, alpha=0.8 * (found / top).clip(0, 1))


def picture(axes: Axes, image: np.ndarray) -> None:
    """An image (3, H, W) on [0, 1], without axes."""
    axes.imshow(image.clip(0, 1).transpose(1, 2, 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
