"""Figure 5: content distance in some layers against cross-entropy, along a purification.

The way of a line: attacked, restored (if it has a restorer), diffused, every step back, purified.
A state x_t of a diffusion lies on the VP scale, where the image is shrunk by sqrt(alpha_bar(t)).
It is looked at as the image (x_t / sqrt(alpha_bar(t)) + 1) / 2, at its own contrast with the noise
that it has, and not clamped, like purified images. `diffused` is the forward process at the time
to which the first step back leads.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

from puriflow.config import NONE
from puriflow.diffusion.vp import alpha_bar
from puriflow.metrics.accuracy import cross_entropy
from puriflow.metrics.content import content_distance
from puriflow.pictures.figure import Line, Transition
from puriflow.pictures.sources import Sources
from puriflow.progress import Progress
from puriflow.purifiers.purifier import Purifier
from puriflow.seeding import ImageNoise

STATES = {"attacked": "o", "restored": "^", "diffused": "X", "purified": "*"}  # and their markers
Point = dict[str, Any]  # state, t, cross_entropy, and the content distance of each layer


def build(figure: Transition, sources: Sources) -> tuple[list[dict[str, Any]], plt.Figure]:
    """The CSV's rows, one for each line, state and layer (means over images), and the drawing."""
    rows = []
    total = len(sources.lines) * len(sources.clean)
    with Progress(figure.source, total=total) as progress:
        for line in sources.lines:
            rows += measure(figure, sources, line, progress)
    return rows, draw(sources, pd.DataFrame(rows))


def measure(
    figure: Transition, sources: Sources, line: Line, progress: Progress
) -> list[dict[str, Any]]:
    """The rows of one line."""
    ways = []
    for i in range(len(sources.clean)):
        ways.append(way(figure, sources, line, i))
        progress.advance(1)
    rows = []
    for step, points in enumerate(zip(*ways, strict=True)):
        for layer in sources.layers:
            row = {**sources.described(line), "step": step, "state": points[0]["state"]}
            row |= {"t": points[0]["t"], "layer": layer, "n": len(points)}
            row |= {"definition": figure.definition}
            row["content_distance"] = np.mean([point[layer] for point in points])
            row["cross_entropy"] = np.mean([point["cross_entropy"] for point in points])
            rows.append(row | {"note": sources.note(line)})
    return rows


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
    """One layer: a line for each way, with its states' markers."""
    for label, rows in frame.groupby("line", sort=False):
        x, y = rows["content_distance"], rows["cross_entropy"]
        (drawn,) = axes.plot(x, y, marker=".", markersize=2, linewidth=0.8, label=label)
        for state, marker in STATES.items():
            at = rows["state"] == state
            axes.plot(x[at], y[at], marker=marker, linestyle="", color=drawn.get_color())
    for state, marker in STATES.items():
        axes.plot([], [], marker=marker, linestyle="", color="#777777", label=state)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
