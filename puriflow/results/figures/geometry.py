"""Whether maps are the projections of section 4.2, measured at clean, attacked and restored images.

The map of a line with a one-shot purifier is P_t (paper, Eq. 9): an image is diffused to t' by the
noise of its purification, and the network estimates x0 at once. On a flat manifold with the best of
networks its Jacobian by the image is the orthonormal projection onto the manifold. The map of a
line with a restorer alone is R(H(x)) (Proposition 1). Neither is clamped. The point at which a line
is looked at is what reaches its map: a clean or an attacked image, or for a line with both restorer
and purifier what the restorer made of it. A perturbation is the difference between that point under
attack and without.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.errors import UserError
from puriflow.metrics.paired import student_interval
from puriflow.progress import Progress
from puriflow.results.columns import bounded
from puriflow.results.figures.base import Built, Computed, Line

if TYPE_CHECKING:
    from torch import Tensor

    from puriflow.metrics.geometry import Map
    from puriflow.purifiers.osd import OSD
    from puriflow.randomness import ImageNoise
    from puriflow.restorers.rescaling import UpDown
    from puriflow.results.figures.sources import Sources

METRICS = (
    *("idempotence", "symmetry", "asymmetry", "kept_random"),
    *("reaching", "kept", "removed", "left", "turned", "off_tangent"),
)


class Seen(NamedTuple):
    """One image (1, 3, H, W), and what reaches the map of a line.

    Attributes:
        clean: the image, without an attack.
        attacked: under the line's attack, or the figure's.
        point_clean: what reaches the map of the first.
        point_attacked: of the second.
        point: of the line's own.
    """

    clean: "Tensor"
    attacked: "Tensor"
    point_clean: "Tensor"
    point_attacked: "Tensor"
    point: "Tensor"


class AtClean(NamedTuple):
    """What the Jacobian of P_t at a clean image makes of two directions."""

    random: "Tensor"
    attack: "Tensor"


class Geometry(Computed):
    """Means over images with Student's intervals; a row for each line.

    `idempotence`, `symmetry`, `asymmetry` and `kept_random` are those of
    `puriflow.metrics.geometry.Nearness`, in random directions. Of the perturbation d as it reaches
    the map, `reaching` is its energy over the attack's own, `kept` and `removed` are the shares of
    it in J d and in d - J d, and `left` is the energy of J d over the attack's own.

    Of P_t under attack, with J_0 at the clean image x_0 and the attacked one x_a: `turned` is
    |J v - J_0 v| / |J_0 v|, and `off_tangent` the left side of Eq. 10 over |x_a - x_0|, which is
    |point - (x_0 + J_0 (x_a - x_0))|.
    """

    computed_roles: ClassVar[tuple[str, ...]] = ("restorer", "purifier")
    own_columns: ClassVar[tuple[str, ...]] = (
        "n",
        *(f"{metric}{bound}" for metric in METRICS for bound in ("", "_low", "_high")),
        "note",
    )

    kind: Literal["geometry"] = "geometry"

    @model_validator(mode="after")
    def _mapped(self) -> Self:
        for line in self.lines:
            if line.restorer == line.purifier == NONE:
                raise ValueError(
                    f"line {line.label!r} has neither a restorer nor a purifier, so it has no map"
                )
        return self

    def chains(self, line: Line) -> dict[str, Chain]:
        """The chains whose images a line looks at: by the fields of `Seen`."""
        reached = line.restorer if line.purifier != NONE else NONE
        attack = self.attack if line.attack in (None, NONE) else line.attack
        own = Chain(self.dataset, attack, self.classifier)
        before = Chain(self.dataset, attack, self.classifier, reached)
        clean = Chain(self.dataset, NONE, NONE, reached)
        point = clean if self.chain(line).attack == NONE else before
        return dict(
            zip(Seen._fields, (Chain(self.dataset), own, clean, before, point), strict=True)
        )

    def stages(self, line: Line) -> list[tuple[Chain, str]]:
        """See `Figure`: what reaches the map, clean and attacked."""
        chains = dict.fromkeys(self.chains(line).values())
        return [(chain, chain.before("classify")) for chain in chains]

    def trigger(self, track: Any) -> dict[str, Any]:
        """See `Result`; and the seed of noise and directions."""
        return super().trigger(track) | {"seed": track.seed}

    def compute(self, sources: "Sources") -> Built:
        """See `Figure`."""
        import pandas as pd

        from puriflow.plots import geometry

        rows, values, at_clean = [], [], {}
        lines, count = self.served(sources.track), len(sources.clean)
        with Progress(self.source, total=len(lines) * count) as progress:
            for line in lines:
                images = {name: sources.images(chain) for name, chain in self.chains(line).items()}
                found = []
                for i in range(count):
                    found.append(self.measured(sources, line, i, images, at_clean))
                    progress.advance(1)
                row = {**self.described(sources.track, line), "n": count}
                for metric in found[0]:
                    own = np.array([of_image[metric] for of_image in found])
                    row |= bounded(metric, (own.mean(), *student_interval(own)))
                    values += sources.values(line.label, metric, own)
                rows.append(row)
        return Built(rows, values, geometry.draw(pd.DataFrame(rows)))

    def measured(
        self,
        sources: "Sources",
        line: Line,
        i: int,
        images: Mapping[str, np.ndarray],
        at_clean: dict[tuple[str, str, int], AtClean],
    ) -> dict[str, float]:
        """The metrics of one image, by its place among the figure's images.

        `images` are all images of each field of `Seen`. What lines have in common is kept in
        `at_clean`, by attack, purifier and place.

        Raises:
            UserError: the attack left it as it is, or the map keeps nothing of a direction.
        """
        import torch

        from puriflow.metrics.geometry import directed, length, nearness, pushed, shares
        from puriflow.randomness import DIRECTIONS, ImageNoise

        index = [int(sources.indices[i])]
        tensors = {n: torch.from_numpy(x[i : i + 1]).to(sources.device) for n, x in images.items()}
        seen = Seen(**tensors)
        f = self.map(sources, line, index)
        drawn = ImageNoise(sources.track.seed, DIRECTIONS, index)
        v, u = drawn.normal_like(seen.point), drawn.normal_like(seen.point)
        attack, reaching = seen.attacked - seen.clean, seen.point_attacked - seen.point_clean
        try:
            size = directed(attack, "its perturbation")
            near = nearness(f, seen.point, v, u)
            kept, removed = shares(pushed(f, seen.point, reaching)[1], reaching)
        except UserError as error:
            raise UserError(f"{self.source}, {line.label!r}, image {index[0]}: {error}") from None
        found = {name: x.item() for name, x in near._asdict().items()}
        found["kept_random"] = found["kept"]
        found |= {"kept": kept.item(), "removed": removed.item()}
        found["reaching"] = (length(reaching) / size).square().item()
        found["left"] = found["reaching"] * found["kept"]
        if line.purifier != NONE and self.chain(line).attack != NONE:
            key = (self.chain(line).attack, line.purifier, i)
            if key not in at_clean:
                at_clean[key] = AtClean(*(pushed(f, seen.clean, d)[1] for d in (v, attack)))
            found |= against_clean(at_clean[key], seen, pushed(f, seen.point, v)[1])
        return {metric: found[metric] for metric in METRICS if metric in found}

    def map(self, sources: "Sources", line: Line, index: list[int]) -> "Map":
        """The map of a line for one image, by its data-set index.

        Raises:
            UserError: its restorer or purifier is no such map.
        """
        import torch

        from puriflow.purifiers.osd import OSD
        from puriflow.randomness import PURIFY, ImageNoise
        from puriflow.restorers.rescaling import UpDown

        if line.purifier != NONE:
            purifier = sources.part("purifier", line.purifier)
            if not isinstance(purifier, OSD):
                raise UserError(
                    f"{self.source}, {line.label!r}: purifier {line.purifier} is no P_t, which is "
                    "one-shot denoising (kind osd)"
                )
            # Of channels side by side torch cannot differentiate a group norm forwards.
            # pyrefly: ignore[no-matching-overload]  # torch's stub leaves this option out
            purifier.denoiser.network.to(memory_format=torch.contiguous_format)
            return lambda x: estimate(purifier, x, ImageNoise(sources.track.seed, PURIFY, index))
        restorer = sources.part("restorer", line.restorer)
        if not isinstance(restorer, UpDown):
            raise UserError(
                f"{self.source}, {line.label!r}: restorer {line.restorer} is no R(H(x)), which "
                "goes up and down again"
            )
        return lambda x: up_down(restorer, x)


def against_clean(at_clean: AtClean, seen: Seen, product: "Tensor") -> dict[str, float]:
    """`turned` and `off_tangent` of P_t at a point, where J v is a `product`."""
    from puriflow.metrics.geometry import length

    attack = seen.attacked - seen.clean
    turned = length(product - at_clean.random) / length(at_clean.random)
    off = length(seen.point - seen.clean - at_clean.attack) / length(attack)
    return {"turned": turned.item(), "off_tangent": off.item()}


def estimate(osd: "OSD", images: "Tensor", noise: "ImageNoise") -> "Tensor":
    """P_t (Eq. 9, with the scaling that it leaves out) of images (N, 3, H, W), not clamped.

    It is `OSD` without its clamp, and asks the network itself: torch has no forward derivative of a
    step that is computed again.
    """
    import torch
    from torch.nn import functional as F

    from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR

    def to(x: "Tensor", height: int, width: int) -> "Tensor":
        if (height, width) == x.shape[-2:]:
            return x
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)

    side = osd.resize
    x0 = to(images * 2 - 1, *(images.shape[-2:] if side is None else (side, side)))
    x = osd.add_noise(x0, osd.t, noise.normal_like(x0))
    alpha_bar_t = float(DISCRETE_ALPHA_BAR[osd.t - 1])
    sigma = torch.tensor((1 / alpha_bar_t - 1) ** 0.5, dtype=torch.float32)
    x0 = osd.denoiser.denoise(x / alpha_bar_t**0.5, sigma)
    return (to(x0, *images.shape[-2:]) + 1) / 2


def up_down(restorer: "UpDown", images: "Tensor") -> "Tensor":
    """R(H(x)) of images (N, 3, H, W), as often as the restorer does it, not clamped."""
    from puriflow.restorers.rescaling import downsample_to

    height, width = images.shape[-2:]
    for _ in range(restorer.rounds):
        images = downsample_to(restorer.upscale(images), (height, width), restorer.downsample)
    return images
