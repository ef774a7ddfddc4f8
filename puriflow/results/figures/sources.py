"""What figures read and compute with: images of chains from their stores, and built parts."""

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puriflow.chain import Chain
from puriflow.compute import in_batches
from puriflow.config import NONE, Config
from puriflow.errors import UserError
from puriflow.results.base import joined, notes
from puriflow.results.figures.base import Figure, Line
from puriflow.results.measures import Stores


class Sources:
    """The stores and parts of a figure.

    Args:
        figure: whose.
        track: what serves its roles.
        results: where the stores are.
        device: to compute on.
    """

    def __init__(self, figure: Figure, track: Config, results: Path, device: torch.device | None):
        self.figure, self.track, self.device = figure, track, device
        self.stores = Stores(track, results)
        self.lines: list[Line] = figure.served(track)
        self.part = cache(self._part)

    def read(self, chain: Chain, stage: str, array: str = "images") -> np.ndarray:
        """An array of a chain's stage, of the figure's images."""
        shards = self.figure.shards(self.track)
        stores = [self.stores.open(chain.folder(stage, shard)) for shard in shards]
        return np.concatenate([store.read(array, 0, self.figure.count) for store in stores])

    def images(self, line: Line) -> np.ndarray:
        """What came out of a line's chain: (n, 3, H, W), about [0, 1]."""
        chain = self.figure.chain(line)
        return self.read(chain, chain.before("classify"))

    @cached_property
    def clean(self) -> np.ndarray:
        """The images of the data set: (n, 3, H, W) in [0, 1]."""
        return self.read(Chain(self.figure.dataset), "images")

    @cached_property
    def labels(self) -> np.ndarray:
        """Their classes (n,)."""
        return self.read(Chain(self.figure.dataset), "images", "label")

    @cached_property
    def indices(self) -> np.ndarray:
        """Their data-set indices (n,), which select their noise."""
        return self.read(Chain(self.figure.dataset), "images", "index")

    def errors(self, line: Line) -> np.ndarray:
        """Mean squared error of every image of a line to the clean one: float64 (n,)."""
        return ((self.images(line) - self.clean) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)

    def check_shown(self, shown: Iterable[int]) -> None:
        """Check that the images that the figure shows are there.

        Raises:
            UserError: the data set has fewer.
        """
        last, count = max(shown), len(self.indices)
        if last >= count:
            raise UserError(
                f"{self.figure.source} shows image {last}, counted from 0, but data set "
                f"{self.figure.dataset} has {count} there"
            )

    def _part(self, role: str, name: str) -> nn.Module:
        """A part that the figure computes with, on its device."""
        return self.track.part(role, name).build().to(self.device)

    @property
    def classifier(self) -> nn.Module:
        """The figure's classifier."""
        return self.part("classifier", self.figure.classifier)

    @property
    def features(self) -> nn.Module:
        """The figure's feature network."""
        return self.part("features", self.figure.features)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the feature network, as the configuration lists them."""
        return self.features.wanted

    @torch.no_grad()
    def maps(self, images: np.ndarray, layer: str) -> Tensor:
        """Feature maps (n, C, h, w) of images at one layer."""
        return in_batches(lambda x: self.features(x)[layer], self.device, images)

    def described(self, line: Line) -> dict[str, Any]:
        """What serves a line's roles, and what the track does otherwise in it."""
        roles = list(self.figure.roles(line))
        names = dict.fromkeys(("attack", "restorer", "purifier"), NONE)
        names |= {role: self.track.served(role, name).by for role, name in roles}
        return {"line": line.label, **names, "note": joined(*notes(self.track, roles))}

    def values(
        self, line: str, metric: str, values: np.ndarray, layer: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The values (n,) of a metric of a line's images, a row each."""
        for index, value in zip(self.indices, values, strict=True):
            row = {"line": line, "layer": layer, "index": int(index), "metric": metric}
            yield row | {"value": float(value)}
