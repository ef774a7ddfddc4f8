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

from puriflow.compute import start
from puriflow.config import NONE, Config, load_config
from puriflow.defence import Defence
from puriflow.errors import UserError
from puriflow.image_files.chain import Specs, chain_specs
from puriflow.image_files.layouts import Layout, layout_of
from puriflow.image_files.tiling import Tiling, tiling_of
from puriflow.randomness import PURIFY, TILE, ImageNoise, derive

Images = TypeVar("Images", np.ndarray, Tensor)
GPU_BATCH = 16  # images of one size computed at once; on a CPU one is as fast


def purify(
    images: Images,
    *,
    restorer: str = NONE,
    purifier: str = NONE,
    config: Config | str | Path = "config/config.yaml",
    seed: int = 0,
) -> Images:
    """Restore and purify images, of any size.

    Args:
        images: array or tensor (H, W, 3), (3, H, W), (N, H, W, 3) or (N, 3, H, W), of uint8 or of
            floats in [0, 1].
        restorer: name in the configuration, or `none`.
        purifier: name in the configuration, or `none`.
        config: a track, or its file. Paths of weights in it start at the working folder.
        seed: of the purifier's noise.

    Returns:
        The same kind, shape, type and scale; computed on a GPU if there is one.

    Raises:
        UserError: a name is unknown, there is nothing to do, or these are no images.
    """
    track = config if isinstance(config, Config) else load_config(config)
    specs = chain_specs(track, restorer, purifier)
    tensor = isinstance(images, Tensor)
    if tensor and images.dtype == torch.bfloat16:
        raise UserError("images are of bfloat16, but must be uint8 (0 to 255) or float16, 32 or 64")
    array = images.detach().cpu().numpy() if tensor else np.asarray(images)
    layout = layout_of(array.shape, array.dtype, "images")
    layout.check(array, "images")
    device = start(gpu=True)
    defence = build_chain(restorer, purifier, specs, seed, device)
    blocks = purified_blocks(defence, array, layout, range(layout.count), device=device)
    result = layout.gathered(list(blocks))
    return torch.from_numpy(result).to(images.device) if tensor else result


def build_chain(
    restorer: str, purifier: str, specs: Specs, seed: int, device: torch.device
) -> Defence:
    """Restorer and purifier as a defence without a classifier."""
    roles = {"restorer": restorer, "purifier": purifier, "classifier": NONE}
    return Defence.from_specs(roles, {**specs, "classifier": None}, seed=seed).to(device)


def tiling_for(defence: Defence, size: tuple[int, int]) -> Tiling:
    """The pieces in which a chain computes an image of this height and width."""
    return tiling_of(size, None if defence.purifier is None else defence.purifier.resize)


def noise_indices(name: Path, count: int) -> list[int]:
    """What selects the noise of each image of a file: its name in the results, and its place."""
    named = name.as_posix().encode(errors="surrogateescape")  # names of files need not be text
    return [derive(named, i) for i in range(count)]


def purified_blocks(
    defence: Defence,
    array: Any,
    layout: Layout,
    indices: Sequence[int],
    *,
    device: torch.device,
    advance: Callable[[int], None] = lambda pieces: None,
) -> Iterator[np.ndarray]:
    """Purify the images of an array, some at a time.

    Args:
        defence: the chain.
        array: what `layout` reads.
        layout: of the array and of the result.
        indices: of each image, which select its noise.
        device: of the chain.
        advance: told how many pieces were computed.

    Yields:
        Images (n, ...) as the array holds them.
    """
    step = 1 if device.type == "cpu" else GPU_BATCH
    for begin in range(0, layout.count, step):
        end = min(begin + step, layout.count)
        images = torch.from_numpy(layout.read(array, begin, end)).to(device)
        result = purified(defence, images, indices[begin:end], advance)
        yield layout.native(result.cpu().numpy())


@torch.no_grad()
def purified(
    defence: Defence,
    images: Tensor,
    indices: Sequence[int],
    advance: Callable[[int], None] = lambda pieces: None,
) -> Tensor:
    """Purified images of any size, clamped to [0, 1].

    Args:
        defence: the chain.
        images: (n, 3, H, W) in [0, 1].
        indices: of each image, which select its noise.
        advance: told how many pieces were computed.
    """
    tiling = tiling_for(defence, images.shape[-2:])
    rows, columns = tiling.rows, tiling.columns
    weight = torch.from_numpy(np.outer(rows.weight(), columns.weight())).to(images.device)
    total, weights = torch.zeros_like(images), torch.zeros_like(images[0, 0])
    for number, (top, left) in enumerate(tiling):
        piece = images[:, :, rows.source(top)][..., columns.source(left)]
        # One piece has the noise of the purify stage; two tiles never have the same.
        word = PURIFY if tiling.count == 1 else TILE.format(number)
        piece = defence.purified(piece, ImageNoise(defence.seed, word, indices))
        (in_y, y), (in_x, x) = rows.inside(top), columns.inside(left)
        total[..., y, x] += (piece * weight)[..., in_y, in_x]
        weights[y, x] += weight[in_y, in_x]
        advance(len(images))
    return (total / weights).clamp(0, 1)
