"""What figures of content distance share: distances by layer, over those of a reference."""

from typing import TYPE_CHECKING, Any, ClassVar

from puriflow.errors import UserError
from puriflow.metrics.content import Definition, content_distance, ratio_of_means
from puriflow.results.columns import bounded
from puriflow.results.figures.base import Compared

if TYPE_CHECKING:
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

    def distances(
        self, sources: "Sources", layer: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Content distances from the clean images at a layer of the feature network.

        Returns:
            Of each line, a row with its mean and the ratio to the reference's, with the 95 %
            interval; of each line and image, a row with its own.
        """
        lines, of_lines = self.served(sources.track), {}
        clean = sources.maps(self.features, layer, sources.clean)
        for line in lines:
            maps = sources.maps(self.features, layer, sources.images(self.chain(line)))
            of_lines[line.label] = content_distance(maps, clean, self.definition).cpu().numpy()
        reference = of_lines[self.reference]
        if not reference.any():
            raise UserError(
                f"{self.source}: line {self.reference!r} has content distance 0 at layer {layer}, "
                "and the others cannot be divided by it"
            )
        rows, values = [], []
        for line in lines:
            own = of_lines[line.label]
            values += sources.values(line.label, "content_distance", own, layer)
            row = self.described(sources.track, line)
            row |= {"layer": layer, "n": len(own), "definition": self.definition}
            row |= {"content_distance": own.mean()}
            rows.append(row | bounded("normalised", ratio_of_means(own, reference)))
        return rows, values
