"""Restoring and purifying images of any size; `purify` for arrays and tensors.

The noise of an image of an array is that of the purify stage for its place in it, so that images of
the tables' size come out as from `Defence.purify`. The noise of an image of a file goes by the name
of the file and the place in it, so that no neighbour changes it. Each tile of a larger image has
noise of its own. How many images and tiles are computed at once changes none of them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from puriflow import compute
from puriflow.config import NONE, Config, load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.image_files.chain import chain_parts
from puriflow.image_files.layout import Layout, layout_of
from puriflow.image_files.tiles import Forgotten, Tiles
from puriflow.image_files.tiling import Blend, Tiling, tiling_of
from puriflow.memory import free_memory, out_of_memory
from puriflow.planning import together
from puriflow.progress import Progress
from puriflow.randomness import PURIFY, TILE, ImageNoise, derive
from puriflow.registry import Parts

Images = TypeVar("Images", np.ndarray, Tensor)
Advance = Callable[[int], None]  # told how many tiles were computed
log = logging.getLogger(__name__)
TYPES = (torch.uint8, torch.float16, torch.float32, torch.float64)  # of tensors


def purify(
    images: Images,
    *,
    restorer: str = NONE,
    purifier: str = NONE,
    config: Config | str | Path | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Images:
    """Restore and purify images, of any size.

    Args:
        images: array or tensor (H, W, 3), (3, H, W), (N, H, W, 3) or (N, 3, H, W), of uint8 or of
            floats in [0, 1].
        restorer: name in the configuration, or `none`.
        purifier: name in the configuration, or `none`.
        config: a track, or its file; by default config/config.yaml here, or PuriFlow's own.
        seed: of the purifier's noise.
        batch: how many images or tiles a GPU purifies at once; by default what its memory holds.

    Returns:
        An array or a tensor, as given, of the same shape, type and scale; computed on a GPU if
        there is one.

    Raises:
        UserError: a name is unknown, there is nothing to do, these are no images, or a part
            makes NaN or infinity of one.
    """
    track = config if isinstance(config, Config) else load_config(config)
    chain = chain_parts(track, restorer, purifier)
    tensor = isinstance(images, Tensor)
    if tensor and (images.dtype not in TYPES or images.layout != torch.strided or images.is_meta):
        raise UserError(
            f"images are a tensor of {images.dtype} ({images.layout}, {images.device}), but must "
            "be a dense one of uint8 (0 to 255) or float16, 32 or 64 ([0, 1])"
        )
    try:
        array = images.numpy(force=True) if tensor else np.asarray(images)
    except ValueError as error:
        raise UserError(f"images are no array: {error}") from None
    layout = layout_of(array.shape, array.dtype, "images")
    layout.check(array, "images")
    how = track.compute
    kernels = {"deterministic": how.deterministic, "compiled": how.compile}
    with compute.device(gpu=True, threads=None, **kernels) as device:
        defence = Defence.from_parts(chain, seed=seed).to(device)
        batch = track.compute.batch if batch is None else batch
        given = images_of(array, layout, range(layout.count), "images")
        tiles = tiling_for(defence, layout.size).count
        unit = "images" if tiles == 1 else "tiles"
        with Progress("purify", total=layout.count * tiles, unit=unit) as progress:
            purification = Purification(defence, chain, device, batch, progress.advance)
            purified_images = purification.purified(given, layout.size)
            blocks = [layout.encode(image[None]) for image in purified_images]
    purified = layout.concatenate(blocks)
    # pyrefly: ignore[bad-return]  # `tensor` says which of the two
    return torch.from_numpy(purified).to(images.device) if tensor else purified


class Image(NamedTuple):
    """An image that is to be purified."""

    pixels: np.ndarray  # float32 (3, H, W) in [0, 1]
    index: int  # selects its noise
    where: str  # that errors name
    place: int = 0  # in its file
    tiles: Tiles = Forgotten()  # what is kept of the file's tiles


def images_of(
    array: Any, layout: Layout, indices: Sequence[int], where: str, tiles: Tiles | None = None
) -> Iterator[Image]:
    """The images of an array, each read when it is asked for; the indices select their noise."""
    for place, index in enumerate(indices):
        named = where if layout.count == 1 else f"{where} [{place}]"
        pixels = layout.read(array, place, place + 1)[0]
        yield Image(pixels, index, named, place, tiles or Forgotten())


class TileNoise(ImageNoise):
    """The noise of tiles, each of which has a word and the index of its image."""

    def __init__(self, seed: int, drawn: Sequence[tuple[str, int]]):
        super().__init__(seed, PURIFY, ())
        self._seeds = [(seed, word, index, 0) for word, index in drawn]


@dataclass(frozen=True)
class Purification:
    """What purifies images, some or some tiles of them at once.

    Attributes:
        defence: restorer and purifier.
        parts: of it, for what is said of them.
        device: where they are. A CPU computes one tile after the other, which is as fast, and gives
            the same bits whatever comes together.
        batch: how many tiles a GPU computes at once; None for what its memory holds.
        advance: told how many tiles were computed.
    """

    defence: Defence
    parts: Parts
    device: torch.device
    batch: int | None = None
    advance: Advance = lambda tiles: None

    def purified(self, images: Iterable[Image], size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Purify images of one height and width: each float32 (3, H, W) in [0, 1].

        As many are read ahead as are computed at once.

        Raises:
            UserError: a part makes NaN or infinity of one, or the memory has no room for a tile.
        """
        tiling = tiling_for(self.defence, size)
        at_once = self._at_once(tiling)
        images = iter(images)
        while group := list(islice(images, max(1, at_once // tiling.count))):
            yield from self._together(group, tiling, at_once)

    def _at_once(self, tiling: Tiling) -> int:
        """How many tiles are computed at once."""
        if self.device.type == "cpu":
            return 1
        size = (tiling.rows.size, tiling.columns.size)
        return self.batch or together(self.device, self.parts, size, gradient=False)

    def _together(self, group: list[Image], tiling: Tiling, at_once: int) -> list[np.ndarray]:
        """Some images purified, whose tiles are computed together; what is kept is not again."""
        blends = [Blend(tiling) for _ in group]
        places = product(range(len(group)), enumerate(tiling))
        while some := list(islice(places, at_once)):
            kept = [group[i].tiles.get(group[i].place, number) for i, (number, _) in some]
            missing = [one for one, tile in zip(some, kept, strict=True) if tile is None]
            cut = [tiling.cut(group[i].pixels, corner) for i, (_, corner) in missing]
            # One tile has the noise of the purify stage; two never have the same.
            words = [PURIFY if tiling.count == 1 else TILE.format(n) for _, (n, _) in missing]
            sources = [(word, group[i]) for word, (i, _) in zip(words, missing, strict=True)]
            new = iter(self._computed(np.stack(cut), sources) if missing else ())
            for (i, (number, corner)), tile in zip(some, kept, strict=True):
                if tile is None:
                    tile = next(new)
                    group[i].tiles.keep(group[i].place, number, tile)
                blends[i].add(tile, corner)
            self.advance(len(missing))
        return [blend.image() for blend in blends]

    @torch.no_grad()
    def _computed(self, tiles: np.ndarray, sources: list[tuple[str, Image]]) -> np.ndarray:
        """Purified tiles (n, 3, h, w), in halves where the memory runs out; all are finite."""
        images = torch.from_numpy(tiles).to(self.device)
        noise = TileNoise(self.defence.seed, [(word, image.index) for word, image in sources])
        half = len(tiles) // 2
        try:
            purified = self.defence.purified(images, noise)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if not half:
                said = f"{sources[0][1].where}: the memory of {self.device} has no room for a tile"
                raise UserError(said) from None
        else:
            if len(wrong := torch.nonzero(~purified.isfinite().flatten(1).all(1))):
                first = int(wrong[0])
                role = guilty(self.defence, images[first : first + 1])
                raise UserError(
                    f"{role} {self.parts[role].name}: {sources[first][1].where} becomes NaN or "
                    "infinity"  # which clamped could pass for a colour
                )
            return purified.cpu().numpy()
        free_memory()  # what the error held is gone by now
        log.warning(f"no room for {len(tiles)} tiles at once; on with {half}")
        halves = (slice(half), slice(half, None))
        return np.concatenate([self._computed(tiles[h], sources[h]) for h in halves])


def guilty(defence: Defence, tile: Tensor) -> str:
    """The role of the part that makes NaN or infinity of a tile (1, 3, H, W) of finite values."""
    restored = tile if defence.restorer is None else defence.restorer(tile)
    return "purifier" if restored.isfinite().all() else "restorer"


def tiling_for(defence: Defence, size: tuple[int, int]) -> Tiling:
    """The tiles in which a chain computes an image of this height and width."""
    return tiling_of(size, getattr(defence.purifier, "resize", None))  # many have no size


def noise_indices(name: Path, count: int) -> list[int]:
    """What selects the noise of each image of a file: its name in the results, and its place."""
    named = name.as_posix().encode(errors="surrogateescape")  # names of files need not be text
    return [derive(named, i) for i in range(count)]
