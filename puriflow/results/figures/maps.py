"""Figure 3: several kinds of images, and their feature maps at one layer.

A map of many channels is shown as the mean of their absolute values; below it is the mean absolute
difference from the clean image's. Each of the two rows has one scale for all kinds of images.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from puriflow.errors import UserError
from puriflow.metrics.content import Definition
from puriflow.progress import Progress
from puriflow.results.figures.base import Built, Shown
from puriflow.results.figures.content import NUMBERS, content_distances

if TYPE_CHECKING:
    from puriflow.results.figures.sources import Sources


class Maps(Shown):
    """Images and feature maps of one layer; a row for each line, with its squared error as well."""

    asks: ClassVar[tuple[str, ...]] = ("features",)
    numbers: ClassVar[tuple[str, ...]] = (*NUMBERS, "mse")

    kind: Literal["maps"] = "maps"
    features: str
    definition: Definition

    def compute(self, sources: "Sources") -> Built:
        """See `Figure`.

        Raises:
            UserError: the configuration lists several layers, or an image that is shown is not there.
        """
        from puriflow.plots import maps

        sources.check_shown(self.shown)
        if len(sources.layers) != 1:
            raise UserError(f"features {self.features}: a figure of maps takes one layer")
        (layer,) = sources.layers
        with Progress(self.source, total=1, unit="layers") as progress:
            rows, values = content_distances(sources, layer, self.definition, self.reference)
            progress.advance(1)
        for line, row in zip(sources.lines, rows, strict=True):
            errors = sources.errors(line)
            row["mse"] = errors.mean()
            values += sources.values(line.label, "mse", errors)
        kinds = {}
        for line in sources.lines:
            images = sources.images(line)
            kinds[line.label] = [self.mapped(sources, images[i], i) for i in self.shown]
        return Built(rows, values, maps.draw(kinds, f"{layer} of {rows[0]['features']}"))

    def mapped(self, sources: "Sources", image: np.ndarray, i: int) -> tuple[np.ndarray, ...]:
        """An image (3, H, W), its features (h, w), and how they differ from those of clean image i."""
        own, clean = (
            sources.maps(x[None], sources.layers[0])[0].cpu().numpy()
            for x in (image, sources.clean[i])
        )
        return image, np.abs(own).mean(axis=0), np.abs(own - clean).mean(axis=0)
