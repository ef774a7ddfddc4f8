"""Figure 3: clean, attacked and purified images, and their feature maps at one layer.

A map of many channels is shown as the mean of their absolute values; below it is the mean absolute
difference from the clean image's. Each of the two rows has one scale for all lines.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from puriflow.config import Config
from puriflow.errors import UserError
from puriflow.progress import Progress
from puriflow.results.figures.base import Built, Shown
from puriflow.results.figures.distances import COLUMNS, Distances

if TYPE_CHECKING:
    from puriflow.results.figures.sources import Sources


class Maps(Distances, Shown):
    """Images and feature maps of one layer; a row for each line, with its squared error as well."""

    own_columns: ClassVar[tuple[str, ...]] = (*COLUMNS, "mse")

    kind: Literal["maps"] = "maps"

    def check(self, track: Config) -> None:
        """See `Result`: its features are of one layer, as far as the track says which."""
        super().check(track)
        if track.why_unavailable("features", self.features) is None:
            layers = track.part("features", self.features).options.get("layers")
            if isinstance(layers, list):
                self.check_layers(layers)

    def check_layers(self, layers: Sequence[str]) -> None:
        """Check that layers are one."""
        if len(layers) != 1:
            raise UserError(f"features {self.features}: a figure of maps takes one layer")

    def compute(self, sources: "Sources") -> Built:
        """See `Figure`."""
        from puriflow.plots import maps

        self.check_shown(len(sources.indices))
        layers = sources.layers(self.features)
        self.check_layers(layers)
        lines, of_lines, columns = self.served(sources.track), {}, {}
        with Progress(self.source, total=len(lines), unit="lines") as progress:
            for line in lines:
                of_lines[line.label] = self.measured(sources, line)
                progress.advance(1)
        rows, values = self.compared(sources, layers[0], of_lines)
        for line, row in zip(lines, rows, strict=True):
            images, errors = sources.images(self.chain(line)), sources.errors(self.chain(line))
            row["mse"] = errors.mean()
            values += sources.values(line.label, "mse", errors)
            columns[line.label] = [self.mapped(sources, images[i], i) for i in self.shown]
        return Built(rows, values, maps.draw(columns, f"{layers[0]} of {rows[0]['features']}"))

    def mapped(self, sources: "Sources", image: np.ndarray, i: int) -> tuple[np.ndarray, ...]:
        """An image (3, H, W), its features (h, w), and their change from those of clean image i."""
        (layer,) = sources.layers(self.features)
        own, clean = (
            sources.maps(self.features, layer, x[None])[0].cpu().numpy()
            for x in (image, sources.clean[i])
        )
        return image, np.abs(own).mean(axis=0), np.abs(own - clean).mean(axis=0)
