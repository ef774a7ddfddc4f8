"""What figures of content distance share: distances by layer, over those of a reference."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from puriflow.errors import UserError
from puriflow.metrics.content import Definition, content_distance, ratio_of_means
from puriflow.results.columns import bounded
from puriflow.results.figures.base import Compared, Line

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from puriflow.results.figures.sources import Sources

COLUMNS = (
    *("layer", "n", "definition", "content_distance"),
    *("normalised", "normalised_low", "normalised_high", "note"),
)


class Distances(Compared):
    """A figure of content distances."""

    computed_roles: ClassVar[tuple[str, ...]] = ("features",)
    own_columns: ClassVar[tuple[str, ...]] = COLUMNS

    features: str
    definition: Definition

    def measured(self, sources: "Sources", line: Line) -> dict[str, "np.ndarray"]:
        """By layer, the content distance (n,) of every image of a line from the clean one."""
        import torch

        network = sources.part("features", self.features)
        layers = sources.layers(self.features)

        def distances(images: "Tensor", clean: "Tensor") -> "Tensor":
            own, truth = network(images), network(clean)
            found = [content_distance(own[x], truth[x], self.definition) for x in layers]
            return torch.stack(found, dim=1)

        with torch.no_grad():
            found = sources.computed(distances, sources.images(self.chain(line)), sources.clean)
        return dict(zip(layers, found.T.cpu().numpy(), strict=True))

    def compared(
        self, sources: "Sources", layer: str, of_lines: Mapping[str, Mapping[str, "np.ndarray"]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Content distances at a layer, over those of the reference.

        Args:
            sources: of the images.
            layer: of the feature network.
            of_lines: by line, what is `measured`.

        Returns:
            Of each line, a row with its mean and the ratio to the reference's, with the 95 %
            interval; of each line and image, a row with its own.
        """
        reference = of_lines[self.reference][layer]
        if not reference.any():
            raise UserError(
                f"{self.source}: line {self.reference!r} has content distance 0 at layer {layer}, "
                "and the others cannot be divided by it"
            )
        rows, values = [], []
        for line in self.served(sources.track):
            own = of_lines[line.label][layer]
            values += sources.values(line.label, "content_distance", own, layer)
            row = self.described(sources.track, line)
            row |= {"layer": layer, "n": len(own), "definition": self.definition}
            row |= {"content_distance": own.mean()}
            rows.append(row | bounded("normalised", ratio_of_means(own, reference)))
        return rows, values
