"""Figure 5: content distance in some layers against cross-entropy, along a purification.

The trajectory of a line: attacked, restored (if it has a restorer), diffused, every step back,
purified. A state x_t lies on the VP scale, where the image is shrunk by sqrt(alpha_bar(t)). It is
looked at as the image (x_t / sqrt(alpha_bar(t)) + 1) / 2, at its own contrast with the noise that
it has, and not clamped, like purified images. `diffused` is the forward process at the time to
which the first step back leads.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.metrics.accuracy import cross_entropy
from puriflow.metrics.content import Definition, content_distance
from puriflow.progress import Progress
from puriflow.results.figures.base import Built, Computed, Line

if TYPE_CHECKING:
    from torch import Tensor

    from puriflow.purifiers.base import Purifier
    from puriflow.randomness import ImageNoise
    from puriflow.results.figures.sources import Sources

Point = dict[str, Any]  # state, t, cross_entropy, and the content distance of each layer
Measure = Callable[[str, float, "Tensor"], Point]  # of a state's name, t, and image (1, 3, H, W)


class Transition(Computed):
    """Means and quartiles over images; a row for each line, state and layer."""

    computed_roles: ClassVar[tuple[str, ...]] = ("features", "classifier", "purifier")
    own_columns: ClassVar[tuple[str, ...]] = (
        *("step", "state", "t", "layer", "n", "definition"),
        *("content_distance", "content_distance_q1", "content_distance_q3"),
        *("cross_entropy", "cross_entropy_q1", "cross_entropy_q3", "note"),
    )

    kind: Literal["transition"] = "transition"
    features: str
    definition: Definition

    @model_validator(mode="after")
    def _attacked(self) -> Self:
        for line in self.lines:
            if self.chain(line).attack == NONE:
                raise ValueError(f"line {line.label!r} has no attack, with which it begins")
        return self

    def stages(self, line: Line) -> list[tuple[Chain, str]]:
        """Clean, attacked and restored images; the purification is computed here."""
        chain = Chain(self.dataset, self.chain(line).attack, self.classifier, line.restorer)
        return [(chain, stage) for stage in chain.stages()]

    def names(self, line: Line) -> list[str]:
        """`LABEL, STATE` for each state of its trajectory, but for the steps back."""
        restored = ["restored"] if line.restorer != NONE else []
        purified = ["diffused", "purified"] if line.purifier != NONE else []
        return [f"{line.label}, {state}" for state in ("attacked", *restored, *purified)]

    def trigger(self, track: Config) -> dict[str, Any]:
        """See `Result`; and the seed of the purifications."""
        return super().trigger(track) | {"seed": track.seed}

    def compute(self, sources: "Sources") -> Built:
        import pandas as pd

        from puriflow.plots import transition

        rows, values = [], []
        lines, count = self.served(sources.track), len(sources.clean)
        with Progress(self.source, total=len(lines) * count) as progress:
            for line in lines:
                stored = {stage: sources.read(chain, stage) for chain, stage in self.stages(line)}
                trajectories = []
                for i in range(count):
                    images = {stage: own[i : i + 1] for stage, own in stored.items()}
                    trajectories.append(self.trajectory(sources, line, i, images))
                    progress.advance(1)
                for step, points in enumerate(zip(*trajectories, strict=True)):
                    rows += self.summarised(sources, line, step, points)
                    values += self.of_images(sources, line, points)
        return Built(rows, values, transition.draw(pd.DataFrame(rows)))

    def summarised(
        self, sources: "Sources", line: Line, step: int, points: tuple[Point, ...]
    ) -> Iterator[dict[str, Any]]:
        """The rows of one step of a line, from its point of each image."""
        shared = {**self.described(sources.track, line), "step": step, "n": len(points)}
        shared |= {"state": points[0]["state"], "t": points[0]["t"], "definition": self.definition}
        for layer in sources.layers(self.features):
            row = {**shared, "layer": layer}
            for name, key in (("content_distance", layer), ("cross_entropy", "cross_entropy")):
                values = [point[key] for point in points]
                row[name] = np.mean(values)
                row[f"{name}_q1"], row[f"{name}_q3"] = np.percentile(values, [25, 75])
            yield row

    def of_images(
        self, sources: "Sources", line: Line, points: tuple[Point, ...]
    ) -> Iterator[dict[str, Any]]:
        """The values of each image at one step of a line, if its state has a name there."""
        name = f"{line.label}, {points[0]['state']}"
        if name in self.names(line):
            for layer in sources.layers(self.features):
                distances = np.array([point[layer] for point in points])
                yield from sources.values(name, "content_distance", distances, layer)
            losses = np.array([point["cross_entropy"] for point in points])
            yield from sources.values(name, "cross_entropy", losses)

    def trajectory(
        self, sources: "Sources", line: Line, i: int, images: Mapping[str, np.ndarray]
    ) -> list[Point]:
        """The points of one image (1, 3, H, W), by its place among the figure's images.

        `images` are its own of each stage, as they are stored.
        """
        import torch

        from puriflow.randomness import PURIFY, ImageNoise

        stored = {stage: torch.from_numpy(x).to(sources.device) for stage, x in images.items()}
        with torch.no_grad():
            measure = self.measure(sources, i)
            points = [measure("attacked", 0.0, stored["attack"])]
            if line.restorer != NONE:
                points.append(measure("restored", 0.0, stored["restore"]))
            if line.purifier != NONE:
                purifier = sources.part("purifier", line.purifier)
                noise = ImageNoise(sources.track.seed, PURIFY, [int(sources.indices[i])])
                start = stored.get("restore", stored["attack"])
                points += purified(purifier, start, noise, measure)
        return points

    def measure(self, sources: "Sources", i: int) -> Measure:
        """What measures states of one image, by its place among the figure's images."""
        import torch

        features = sources.part("features", self.features)
        classifier = sources.part("classifier", self.classifier)
        truth = features(torch.from_numpy(sources.clean[i : i + 1]).to(sources.device))

        def measure(state: str, t: float, image: "Tensor") -> Point:
            logits = classifier(image).cpu().numpy()
            maps = features(image)
            distances = {
                layer: content_distance(maps[layer], truth[layer], self.definition).item()
                for layer in truth
            }
            loss = cross_entropy(logits, sources.labels[i : i + 1]).item()
            return {"state": state, "t": t, "cross_entropy": loss, **distances}

        return measure


def purified(
    purifier: "Purifier", image: "Tensor", noise: "ImageNoise", measure: Measure
) -> list[Point]:
    """The points of one image (1, 3, H, W) on its way: diffused, every step back, purified."""
    points: list[Point] = []

    def callback(t: float, x_t: "Tensor", x_prime_t: "Tensor") -> None:
        if not points:
            points.append(measure("diffused", t, as_image(x_t, t, image)))
        points.append(measure("back", t, as_image(x_prime_t, t, image)))

    result = purifier(image, noise, callback)
    return [*points, measure("purified", 0.0, result)]


def as_image(x_t: "Tensor", t: float, like: "Tensor") -> "Tensor":
    """A state on the VP scale as an image about [0, 1], of the size of another."""
    import torch
    from torch.nn import functional as F

    from puriflow.diffusion.vp import alpha_bar

    scale = alpha_bar(torch.tensor(t, dtype=torch.float64)).sqrt().item()
    if x_t.shape != like.shape:
        x_t = F.interpolate(x_t, like.shape[-2:], mode="bilinear", align_corners=False)
    return (x_t / scale + 1) / 2
