"""What figures read and compute with: images of chains from their stores, and built parts."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puriflow.chain import Chain
from puriflow.compute import GPU_BATCH, in_batches
from puriflow.config import Config
from puriflow.results.measures import Stores


class Sources:
    """The images of a data set along chains, and parts on a device.

    Args:
        track: what serves their roles.
        results: where the stores are.
        device: to compute on; None for the CPU.
        dataset: name of the data set.
        shards: names of the shards that are read.
        count: images that are taken of them, the first; None for all.
    """

    def __init__(
        self,
        track: Config,
        results: Path,
        device: torch.device | None,
        dataset: str,
        shards: Sequence[str],
        count: int | None,
    ):
        self.track, self.device = track, device or torch.device("cpu")
        self.stores = Stores(track, results)
        self.shards, self.count = shards, count
        self.source = Chain(dataset)
        self.part = cache(self._part)

    def read(self, chain: Chain, stage: str, array: str = "images") -> np.ndarray:
        """An array of a chain's stage."""
        folders = tuple(chain.folder(stage, shard) for shard in self.shards)
        stores = self.stores.together(folders)
        return np.concatenate([store.read(array, 0, self.count) for store in stores])[: self.count]

    def images(self, chain: Chain) -> np.ndarray:
        """What comes out of a chain in front of its classifier: (n, 3, H, W), about [0, 1]."""
        return self.read(chain, chain.before("classify"))

    @cached_property
    def clean(self) -> np.ndarray:
        """The images of the data set: (n, 3, H, W) in [0, 1]."""
        return self.read(self.source, "images")

    @cached_property
    def labels(self) -> np.ndarray:
        """Their classes (n,)."""
        return self.read(self.source, "images", "label")

    @cached_property
    def indices(self) -> np.ndarray:
        """Their data-set indices (n,), which select their noise."""
        return self.read(self.source, "images", "index")

    def errors(self, chain: Chain) -> np.ndarray:
        """Mean squared error of every image of a chain to the clean one: float64 (n,)."""
        return ((self.images(chain) - self.clean) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)

    def _part(self, role: str, name: str) -> Any:
        """A part, built once, on the device."""
        return self.track.part(role, name).build().to(self.device)

    @torch.no_grad()
    def maps(self, features: str, layer: str, images: np.ndarray) -> Tensor:
        """Feature maps (n, C, h, w) of images at one layer of a feature network."""
        network = self.part("features", features)
        return self.computed(lambda x: network(x)[layer], images)

    def computed(self, compute: Callable[..., Tensor], *arrays: np.ndarray) -> Tensor:
        """What `in_batches` computes of arrays (n, ...), of so many at a time as fit a GPU."""
        starts = range(0, len(arrays[0]), GPU_BATCH)
        pieces = ([array[i : i + GPU_BATCH] for array in arrays] for i in starts)
        return torch.cat([in_batches(compute, self.device, *piece) for piece in pieces])

    def layers(self, features: str) -> tuple[str, ...]:
        """The layers of a feature network, as the configuration lists them."""
        return self.part("features", features).wanted

    def values(
        self, line: str, metric: str, values: np.ndarray, layer: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The values (n,) of a metric of the images of a line, a row each, for claims."""
        for index, value in zip(self.indices, values, strict=True):
            row = {"line": line, "layer": layer, "index": int(index), "metric": metric}
            yield row | {"value": float(value)}
