"""Restoring and purifying images of any size; `purify` for arrays and tensors.

The noise of an image of an array is that of the purify stage for its place in it, so that images of
the tables' size come out as from `Defence.purify`. The noise of an image of a file goes by the name
of the file and the place in it, so that no neighbour changes it. Each tile of a larger image has
noise of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from puriflow import compute
from puriflow.config import NONE, Config, load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.image_files.chain import chain_parts
from puriflow.image_files.layout import Layout, layout_of
from puriflow.image_files.tiling import Tiling, tiling_of
from puriflow.randomness import PURIFY, TILE, ImageNoise, derive
from puriflow.registry import Parts

Images = TypeVar("Images", np.ndarray, Tensor)
Advance = Callable[[int], None]  # told how many tiles were computed
TYPES = (torch.uint8, torch.float16, torch.float32, torch.float64)  # of tensors
GPU_BATCH = 16  # images of one size computed at once; on a CPU one is as fast


def purify(
    images: Images,
    *,
    restorer: str = NONE,
    purifier: str = NONE,
    config: Config | str | Path | None = None,
    seed: int = 0,
) -> Images:
    """Restore and purify images, of any size.

    Args:
        images: array or tensor (H, W, 3), (3, H, W), (N, H, W, 3) or (N, 3, H, W), of uint8 or of
            floats in [0, 1].
        restorer: name in the configuration, or `none`.
        purifier: name in the configuration, or `none`.
        config: a track, or its file; by default config/config.yaml here, or PuriFlow's own.
        seed: of the purifier's noise.

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
        indices = range(layout.count)
        blocks = list(purified_blocks(defence, chain, array, layout, indices, device, "images"))
    purified = layout.concatenate(blocks)
    # pyrefly: ignore[bad-return]  # `tensor` says which of the two
    return torch.from_numpy(purified).to(images.device) if tensor else purified


class NotFiniteError(Exception):
    """A part makes NaN or infinity of an image."""

    def __init__(self, role: str, position: int):
        super().__init__(role, position)
        self.role, self.position = role, position  # of the image in its batch


def purified_blocks(
    defence: Defence,
    parts: Parts,
    array: Any,
    layout: Layout,
    indices: Sequence[int],
    device: torch.device,
    where: str,
    advance: Advance = lambda tiles: None,
) -> Iterator[np.ndarray]:
    """Purify the images of an array, some at a time: (n, ...) as the array holds them.

    The indices of the images select their noise; `advance` is told how many tiles were computed.

    Raises:
        UserError: NaN or infinity come out, of the array `where` and of one of the defence's parts.
    """
    step = 1 if device.type == "cpu" else GPU_BATCH
    for begin in range(0, layout.count, step):
        end = min(begin + step, layout.count)
        images = torch.from_numpy(layout.read(array, begin, end)).to(device)
        try:
            purified = purify_tiled(defence, images, indices[begin:end], advance)
        except NotFiniteError as found:
            place = "" if layout.count == 1 else f" [{begin + found.position}]"
            part = f"{found.role} {parts[found.role].name}"
            raise UserError(f"{part}: {where}{place} becomes NaN or infinity") from None
        yield layout.encode(purified.cpu().numpy())


@torch.no_grad()
def purify_tiled(
    defence: Defence, images: Tensor, indices: Sequence[int], advance: Advance = lambda tiles: None
) -> Tensor:
    """Purified images (n, 3, H, W) of any size, clamped to [0, 1]; see `purified_blocks`.

    Raises:
        NotFiniteError: a part makes NaN or infinity of one, which clamped could pass for a colour.
    """
    height, width = images.shape[-2:]
    tiling = tiling_for(defence, (height, width))
    rows, columns = tiling.rows, tiling.columns
    window = torch.from_numpy(np.outer(rows.window(), columns.window())).to(images.device)
    total, weights = torch.zeros_like(images), torch.zeros_like(images[0, 0])
    for number, (top, left) in enumerate(tiling):
        tile = images[:, :, rows.pixels(top)][..., columns.pixels(left)]
        # One tile has the noise of the purify stage; two never have the same.
        word = PURIFY if tiling.count == 1 else TILE.format(number)
        purified = defence.purified(tile, ImageNoise(defence.seed, word, indices))
        if len(wrong := torch.nonzero(~purified.isfinite().flatten(1).all(1))):
            first = int(wrong[0])
            raise NotFiniteError(guilty(defence, tile[first : first + 1]), first)
        (in_y, y), (in_x, x) = rows.inside(top), columns.inside(left)
        total[..., y, x] += (purified * window)[..., in_y, in_x]
        weights[y, x] += window[in_y, in_x]
        advance(len(images))
    return (total / weights).clamp(0, 1)


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
