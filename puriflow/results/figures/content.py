"""Figure 4: content distance from the ground truth by layer, for attacked and purified images."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from puriflow.config import NONE
from puriflow.config.track import Text
from puriflow.progress import Progress
from puriflow.results.figures.base import Built
from puriflow.results.figures.distances import Distances

if TYPE_CHECKING:
    from puriflow.results.figures.sources import Sources


class Content(Distances):
    """Normalised content distance; a row for each line and layer."""

    kind: Literal["content"] = "content"
    panels: dict[Text, Text] = Field(min_length=1, description="letters and titles")

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        for line in self.lines:
            if line.panels is not None and not set(line.panels) <= set(self.panels):
                raise ValueError(f"line {line.label!r} is in panels {line.panels!r}, not all there")
        return self

    def compute(self, sources: "Sources") -> Built:
        """See `Figure`."""
        import pandas as pd

        from puriflow.plots import content

        rows, values, of_lines = [], [], {}
        lines = self.served(sources.track)
        with Progress(self.source, total=len(lines), unit="lines") as progress:
            for line in lines:
                of_lines[line.label] = self.measured(sources, line)
                progress.advance(1)
        for layer in sources.layers(self.features):
            means, of_images = self.compared(sources, layer, of_lines)
            rows += means
            values += of_images
        panels = {
            f"({letter}) {title}": [
                line.label for line in lines if line.panels is None or letter in line.panels
            ]
            for letter, title in self.panels.items()
        }
        levels = [x.label for x in lines if x.restorer == NONE and x.purifier != NONE]
        drawing = content.draw(pd.DataFrame(rows), panels, self.reference, levels)
        return Built(rows, values, drawing)
