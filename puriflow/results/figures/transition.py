"""Figure 5: content distance in some layers against cross-entropy, along a purification.

The way of a line: attacked, restored (if it has a restorer), diffused, every step back, purified.
A state x_t of a diffusion lies on the VP scale, where the image is shrunk by sqrt(alpha_bar(t)).
It is looked at as the image (x_t / sqrt(alpha_bar(t)) + 1) / 2, at its own contrast with the noise
that it has, and not clamped, like purified images. `diffused` is the forward process at the time
to which the first step back leads.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from torch import Tensor
from torch.nn import functional as F

from puriflow.config import NONE
from puriflow.diffusion.vp import alpha_bar
from puriflow.metrics.accuracy import cross_entropy
from puriflow.metrics.content import content_distance
from puriflow.plots.style import AIDE
from puriflow.progress import Progress
from puriflow.purifiers.base import Purifier
from puriflow.randomness import ImageNoise
from puriflow.results.figures.base import Line, Transition
from puriflow.results.figures.built import Built, values_of
from puriflow.results.figures.sources import Sources

STATES = {"attacked": "o", "restored": "^", "diffused": "X", "purified": "*"}  # and their markers
Point = dict[str, Any]  # state, t, cross_entropy, and the content distance of each layer


def build(figure: Transition, sources: Sources) -> Built:
    """Rows of the CSV are one for each line, state and layer: means over images, and quartiles."""
    rows, values = [], []
    total = len(sources.lines) * len(sources.clean)
    with Progress(figure.source, total=total) as progress:
        for line in sources.lines:
            ways = []
            for i in range(len(sources.clean)):
                ways.append(way(figure, sources, line, i))
                progress.advance(1)
            for step, points in enumerate(zip(*ways, strict=True)):
                rows += summarised(figure, sources, line, step, points)
                values += single(figure, sources, line, points)
    return Built(rows, values, draw(sources, pd.DataFrame(rows)))


def summarised(
    figure: Transition, sources: Sources, line: Line, step: int, points: tuple[Point, ...]
) -> Iterator[dict[str, Any]]:
    """The rows of one step of a line, from its point of each image."""
    said = {**sources.described(line), "step": step, "state": points[0]["state"]}
    said |= {"t": points[0]["t"]}
    for layer in sources.layers:
        row = {**said, "layer": layer, "n": len(points), "definition": figure.definition}
        for name, key in (("content_distance", layer), ("cross_entropy", "cross_entropy")):
            found = [point[key] for point in points]
            row[name] = np.mean(found)
            row[f"{name}_q1"], row[f"{name}_q3"] = np.percentile(found, [25, 75])
        yield row | {"note": sources.note(line)}


def single(
    figure: Transition, sources: Sources, line: Line, points: tuple[Point, ...]
) -> Iterator[dict[str, Any]]:
    """The values of each image at one step of a line, if its state has a name there."""
    named, indices = f"{line.label}, {points[0]['state']}", sources.indices
    if named in figure.names(line):
        for layer in sources.layers:
            found = np.array([point[layer] for point in points])
            yield from values_of(named, "content_distance", indices, found, layer)
        losses = np.array([point["cross_entropy"] for point in points])
        yield from values_of(named, "cross_entropy", indices, losses)


@torch.no_grad()
def way(figure: Transition, sources: Sources, line: Line, i: int) -> list[Point]:
    """The points of one image, by its place among the figure's images."""
    chain = figure.reads(line)[-1][0]
    seen = observer(figure, sources, i)

    def stored(stage: str) -> Tensor:
        return torch.from_numpy(sources.read(chain, stage)[i : i + 1]).to(sources.device)

    points = [seen("attacked", 0.0, stored("attack"))]
    if line.restorer != NONE:
        points.append(seen("restored", 0.0, stored("restore")))
    if line.purifier != NONE:
        purifier = sources.part("purifier", line.purifier)
        noise = ImageNoise(sources.seed, "purify", [int(sources.indices[i])])
        points += purified(purifier, stored(chain.before("purify")), noise, seen)
    return points


def observer(figure: Transition, sources: Sources, i: int) -> Callable[[str, float, Tensor], Point]:
    """What looks at states of one image: (name, t, image (1, 3, H, W)) to a point."""
    features = sources.part("features", figure.features)
    classifier = sources.part("classifier", figure.classifier)
    truth = features(torch.from_numpy(sources.clean[i : i + 1]).to(sources.device))

    def seen(state: str, t: float, image: Tensor) -> Point:
        logits = classifier(image).cpu().numpy()
        maps = features(image)
        distances = {
            layer: content_distance(maps[layer], truth[layer], figure.definition).item()
            for layer in truth
        }
        loss = cross_entropy(logits, sources.labels[i : i + 1]).item()
        return {"state": state, "t": t, "cross_entropy": loss, **distances}

    return seen


def purified(
    purifier: Purifier,
    image: Tensor,
    noise: ImageNoise,
    seen: Callable[[str, float, Tensor], Point],
) -> list[Point]:
    """The points of a purification: diffused, every step back, purified."""
    points: list[Point] = []

    def watch(t: float, diffused: Tensor, back: Tensor) -> None:
        if not points:
            points.append(seen("diffused", t, as_image(diffused, t, image)))
        points.append(seen("back", t, as_image(back, t, image)))

    result = purifier(image, noise, watch)
    return [*points, seen("purified", 0.0, result)]


def as_image(state: Tensor, t: float, like: Tensor) -> Tensor:
    """A state on the VP scale as an image about [0, 1], of the size of another."""
    kept = alpha_bar(torch.tensor(t, dtype=torch.float64)).sqrt().item()
    if state.shape != like.shape:
        state = F.interpolate(state, like.shape[-2:], mode="bilinear", align_corners=False)
    return (state / kept + 1) / 2


def draw(sources: Sources, frame: pd.DataFrame) -> plt.Figure:
    """A panel for each layer, side by side."""
    count = len(sources.layers)
    drawn, places = plt.subplots(1, count, figsize=(3.25, 2.4), sharey=True, squeeze=False)
    for axes, layer in zip(places[0], sources.layers, strict=True):
        _panel(axes, frame[frame["layer"] == layer])
        axes.set_title(f"{layer} of {frame['features'].iloc[0]}")
        axes.set_xlabel("content distance")
    places[0, 0].set_ylabel(f"cross-entropy (nats), {frame['n'].iloc[0]} images")
    handles, names = places[0, 0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=3)
    return drawn


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    """One layer: a line for each way, with its states' markers, which are open of the first way.

    All ways begin with the same images, whose markers lie on one another.
    """
    for i, (label, rows) in enumerate(frame.groupby("line", sort=False)):
        x, y = rows["content_distance"], rows["cross_entropy"]
        (drawn,) = axes.plot(x, y, marker=".", markersize=2, linewidth=0.8, label=label)
        face = {} if i else {"markerfacecolor": "none", "markersize": 7, "zorder": 3}
        for state, marker in STATES.items():
            at = rows["state"] == state
            axes.plot(x[at], y[at], marker=marker, linestyle="", color=drawn.get_color(), **face)
    for state, marker in STATES.items():
        axes.plot([], [], marker=marker, linestyle="", color=AIDE, label=state)
    axes.margins(0.1)  # for the markers
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
