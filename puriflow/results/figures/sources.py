"""What the figures read and compute with: images of chains from their stores, and built parts."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puriflow import registry
from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.errors import UserError
from puriflow.results.figures.base import FAMILIES, Figure, Line, Named, shards_of, unavailable
from puriflow.stages.base import each
from puriflow.store import Stage, open_stage


class Sources:
    """The stores and parts of a figure.

    Args:
        figure: whose.
        named: see `figure.served`.
        results: where the stores are.
        device: to compute on.
    """

    def __init__(self, figure: Figure, named: Named, results: Path, device: torch.device):
        self.figure, self.named, self.results, self.device = figure, named, results, device
        self._opened: dict[str, Stage] = {}
        self._built: dict[str, nn.Module] = {}

    @property
    def lines(self) -> list[Line]:
        """The lines that the track can serve."""
        lines = self.figure.lines
        return [line for line in lines if unavailable(self.figure, line, self.named) is None]

    @property
    def seed(self) -> int:
        """Of all random draws of the track."""
        return self.named["run"]["seed"]

    @property
    def shards(self) -> list[str]:
        """Names of the shards that are read."""
        return shards_of(self.figure, self.named)

    def open(self, folder: str) -> Stage:
        """A store by its path below the results; it is verified once."""
        if folder not in self._opened:
            self._opened[folder] = open_stage(self.results / folder)
        return self._opened[folder]

    def read(self, chain: Chain, stage: str, array: str = "images") -> np.ndarray:
        """An array of a chain's stage, of the figure's images."""
        stores = [self.open(chain.folder(stage, shard)) for shard in self.shards]
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

    def check_shown(self) -> None:
        """Check that the images that the figure shows are there.

        Raises:
            UserError: the data set has fewer.
        """
        last, count = max(self.figure.shown), len(self.indices)
        if last >= count:
            raise UserError(
                f"{self.figure.source} shows image {last}, counted from 0, but data set "
                f"{self.figure.dataset} has {count} there"
            )

    def part(self, kind: str, name: str) -> nn.Module:
        """A part that the figure computes with, on its device."""
        key = f"{kind} {name}"
        if key not in self._built:
            built = registry.build(FAMILIES[kind], name, self.named[key]["spec"])
            self._built[key] = built.to(self.device)
        return self._built[key]

    @torch.no_grad()
    def maps(self, images: np.ndarray, layer: str) -> Tensor:
        """Feature maps (n, C, h, w) of images at one layer of the figure's feature network."""
        features = self.part("features", self.figure.features)
        return each(lambda x: features(x)[layer], self.device, images)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the figure's feature network, as the configuration lists them."""
        return self.part("features", self.figure.features).wanted

    def described(self, line: Line) -> dict[str, Any]:
        """The first columns of a CSV: a line's label and what serves its roles."""
        roles = self.figure.roles(line)
        names = {kind: NONE for kind in FAMILIES if kind in ("attack", "restorer", "purifier")}
        names |= {kind: self.named[f"{kind} {name}"]["served_by"] for kind, name in roles.items()}
        return {"line": line.label, **names}

    def note(self, line: Line) -> str:
        """What the track does otherwise in a line."""
        roles = self.figure.roles(line).items()
        notes = [self.named[f"{kind} {name}"]["note"] for kind, name in roles]
        return "; ".join(filter(None, dict.fromkeys(notes)))
