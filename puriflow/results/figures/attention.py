"""Figure 2: images, where a classifier looks in them (Grad-CAM), and what it answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.special import softmax

from puriflow.config import NONE, Config
from puriflow.datasets.names import class_names
from puriflow.progress import Progress
from puriflow.results.figures.base import Built, Shown

if TYPE_CHECKING:
    from puriflow.results.figures.sources import Sources

METRICS = ("cam_similarity", "mse", "confidence_in_label", "correct")  # the values of an image


class Attention(Shown):
    """Images with Grad-CAM and a classifier's answers; a row for each line and image."""

    computed_roles: ClassVar[tuple[str, ...]] = ("classifier",)
    own_columns: ClassVar[tuple[str, ...]] = (
        *("image", "label", "predicted", "name", "confidence", "confidence_in_label", "correct"),
        *("mse", "target", "cam_similarity", "note"),
    )

    kind: Literal["attention"] = "attention"
    target: Literal["label", "predicted"] = Field(description="the class that Grad-CAM explains")

    def compute(self, sources: "Sources") -> Built:
        """See `Figure`."""
        from puriflow.plots import attention

        self.check_shown(len(sources.indices))
        lines, logits, cams = self.served(sources.track), {}, {}
        with Progress(self.source, total=len(lines), unit="lines") as progress:
            for line in lines:
                images = sources.images(self.chain(line))
                logits[line.label], cams[line.label] = self.answer(sources, images)
                progress.advance(1)
        reference = cams[self.reference]
        classifier = sources.part("classifier", self.classifier)
        names = class_names(logits[self.reference].shape[1], getattr(classifier, "dataset", None))
        rows, answers = [], {}
        for line in lines:
            own, images = cams[line.label], sources.images(self.chain(line))
            verdicts = [
                verdict(*pair, names)
                for pair in zip(logits[line.label], sources.labels, strict=True)
            ]
            shared = self.described(sources.track, line) | {"target": self.target}
            for i, mse in enumerate(sources.errors(self.chain(line))):
                row = {**shared, "image": int(sources.indices[i]), **verdicts[i], "mse": mse}
                rows.append(row | {"cam_similarity": similarity(own[i], reference[i])})
            answers[line.label] = [
                attention.Answer(
                    image=images[i],
                    cam=own[i],
                    top=reference[i].max(),
                    name=verdicts[i]["name"],
                    confidence=verdicts[i]["confidence"],
                    correct=verdicts[i]["correct"],
                )
                for i in self.shown
            ]
        values = [
            {"line": row["line"], "index": row["image"], "metric": name, "value": float(row[name])}
            for row in rows
            for name in METRICS
        ]
        explained = {"label": "the true class", "predicted": "the answer"}[self.target]
        drawn = attention.draw(self.grouped(sources.track, answers), explained, self.reference)
        return Built(rows, values, drawn)

    def grouped(self, track: Config, answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """What is drawn of each line, by the attack on it: clean images and attacked ones apart."""
        groups: dict[str, dict[str, Any]] = {}
        for line in self.served(track):
            attack = self.chain(line).attack
            by = None if attack == NONE else track.served("attack", attack).by
            title = "clean images" if by is None else f"attacked by {by}"
            groups.setdefault(title, {})[line.label] = answers[line.label]
        return groups

    def answer(self, sources: "Sources", images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes) and Grad-CAM (n, H, W) of images (n, 3, H, W)."""
        import torch

        from puriflow.metrics.gradcam import grad_cam

        classifier = sources.part("classifier", self.classifier)
        with torch.no_grad():
            logits = sources.computed(classifier, images)
        classes = sources.labels if self.target == "label" else logits.argmax(1).cpu().numpy()
        cams = sources.computed(lambda x, y: grad_cam(classifier, x, y), images, classes)
        return logits.cpu().numpy(), cams.cpu().numpy()


def verdict(logits: np.ndarray, label: int, names: Sequence[str]) -> dict[str, Any]:
    """What logits (classes,) say: the class, its name, its probability, and whether it is right."""
    predicted = int(logits.argmax())
    probabilities = softmax(logits.astype(np.float64))
    return {
        "label": int(label),
        "predicted": predicted,
        "name": names[predicted],
        "confidence": probabilities[predicted],
        "confidence_in_label": probabilities[label],
        "correct": predicted == int(label),
    }


def similarity(cam: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of the angle between two maps (H, W) that are not negative, 0 to 1; of no map, 0."""
    lengths = np.linalg.norm(cam) * np.linalg.norm(reference)
    return float((cam * reference).sum() / lengths) if lengths else 0.0
