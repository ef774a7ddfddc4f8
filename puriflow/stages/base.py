"""What every stage does around its own computation: resume, batch, time, check and finish.

A stage says what it computes of a batch. `run` reads the batches of a finished stage, and records
all that made the new one: its parts with all their options, code, weights, seed, versions, and the
stage that it was made from. What writes a stage takes `source`, `out`, `seed` and `device` as `run`
does; `batch` is the number of images between two saves, by default what suits the device.
"""

import logging
import os
import platform
import time
from collections import ChainMap, deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from puriflow.errors import UserError, on_disk
from puriflow.fitting import check_labels
from puriflow.memory import free_memory, out_of_memory
from puriflow.progress import Progress, startup
from puriflow.provenance import code_hash, machine, versions, weights_hashes
from puriflow.registry import Parts
from puriflow.store import AXES, Provenance, Stage, Writer

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
LOOKED_AT = 64  # images in memory at once, where all are checked before the first is computed
Arrays = Mapping[str, np.ndarray]
IMAGES = {name for name, axes in AXES.items() if axes == AXES["images"]}
CLASSES = {"logits", "answers"}  # arrays whose last axis are the classes


class Inputs(NamedTuple):
    """A batch of the samples that a stage is made from."""

    images: np.ndarray  # float32 (n, 3, H, W)
    labels: np.ndarray  # int64 (n,)
    indices: np.ndarray  # int64 (n,), in the data set; they select the noise
    work: Path  # a folder for what a killed job shall find again, until the stage is finished


def run(
    stage: str,
    source: Stage,
    out: Path,
    parts: Parts,
    compute: Callable[[Inputs], Arrays],
    *,
    array: str = "images",
    clean: bool = False,
    bounded: bool = True,
    numbers: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: "torch.device",
    batch: int | None = None,
    gradient: bool = False,
    found: MutableMapping[str, Any] | None = None,
) -> Stage:
    """Compute a stage from the images of another one.

    Args:
        stage: its name, that of its module.
        source: a store of images.
        out: folder of the new one.
        parts: that it computes with; what is wrong with new images is said of the first.
        compute: of a batch, the arrays of the new stage; images in the shape of the batch's.
        array: its main array, or what its arrays are called together.
        clean: whether the images of the source must lie in [0, 1]; looked at before all else.
        bounded: whether new images must lie in [0, 1].
        numbers: of the stage itself, for the record.
        seed: of all draws; None if there are none.
        device: to compute on.
        batch: samples of a batch; also what a killed job may lose. None for what the device's
            memory holds.
        gradient: whether the parts are differentiated by the image, which takes more memory.
        found: what `compute` finds out of the machine, for the record; it may fill this later.

    Raises:
        UserError: images of the source, or new ones, are not what they should be, or `out` is the
            source, in it, or above it.
    """
    check_batch(batch)
    with on_disk(out):
        keep_apart(out, source.folder)
    labels, indices = source.read("label"), source.read("index")
    for start in range(0, source.count if clean else 0, LOOKED_AT):
        images = source.read("images", start, start + LOOKED_AT)
        check_images(images, f"store {source.folder}")
    if batch is None:
        from puriflow.planning import together  # with torch, which the images' stage is without

        height, width = source.manifest["arrays"]["images"]["shape"][-2:]
        batch = together(device, parts, (height, width), gradient=gradient)
    writer = Writer(
        out,
        array,
        labels=labels,
        indices=indices,
        provenance=provenance(stage, parts, numbers or {}, upstream=[source], seed=seed),
        machine=ChainMap(dict(machine(device)), {} if found is None else found),
    )
    first = next(iter(parts.values()))
    where = f"{first.role} {first.name}"

    def computed(start: int, stop: int) -> Arrays:
        images = source.read("images", start, stop)
        check_images(images, f"store {source.folder}", bounded=False)
        arrays = compute(Inputs(images, labels[start:stop], indices[start:stop], writer.work))
        for name in arrays.keys() & IMAGES:
            check_images(arrays[name], where, bounded=bounded, shape=images.shape)
        check_rows(arrays, where, stop - start)
        for name in CLASSES & arrays.keys():
            check_labels(labels[start:stop], arrays[name].shape[-1])
        return arrays

    return fill(writer, computed, batch=batch, device=str(device))


def check_batch(batch: int | None) -> None:
    """Refuse a batch without images."""
    if batch is not None and batch < 1:
        raise UserError(f"batch is {batch}, but must be 1 or more")


def keep_apart(out: Path, source: Path) -> None:
    """Refuse a new store in whose place the source would be lost, or be no store any more."""
    for inner, outer in ((out, source), (source, out)):
        whole = Path(os.path.realpath(inner))
        around = (path for path in (whole, *whole.parents) if path.exists())
        if outer.exists() and any(path.samefile(outer) for path in around):
            raise UserError(f"{out} is, holds or lies in the source {source}: name another folder")


def fill(
    writer: Writer, compute: Callable[[int, int], Arrays], *, batch: int, device: str = "cpu"
) -> Stage:
    """Compute the samples that are not done yet, a batch at a time, and finish the store.

    `compute` gives the arrays of the samples from a position to another; `device` is a name for the
    timings. Where the memory runs out, batches are halved, with a line.

    Raises:
        UserError: there is no room for a single sample.
    """
    before, done = startup(), writer.done()
    name, total = writer.provenance["stage"], len(writer.labels)
    # `puriflow status` reads this line.
    log.info(f"{name} of {total} images on {platform.node()}, {device}")
    with closing(writer), Progress(name, total=total, done=len(done)) as progress:
        left = deque(writer.todo(batch))
        while left:
            start, stop = left.popleft()
            begun = time.perf_counter()
            arrays = _computed(compute, start, stop, device)
            if arrays is None:
                left = deque(writer.todo((stop - start) // 2))
                continue
            writer.write(start, arrays, time.perf_counter() - begun)
            progress.advance(stop - start)
        return writer.finish({"startup": round(before, 3), "device": device})


def _computed(
    compute: Callable[[int, int], Arrays], start: int, stop: int, device: str
) -> Arrays | None:
    """The arrays of a batch; None, with a line, if the memory has no room for so many samples."""
    count = stop - start
    try:
        return compute(start, stop)
    except Exception as error:
        if not out_of_memory(error):
            raise
        if count == 1:
            said = f"there is no room for one image in the memory of {device}"
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{said}: {why}") from None
    free_memory()  # what the error held is gone by now
    log.warning(f"no room for {count} images at once; on with {count // 2}")
    return None


def provenance(
    stage: str,
    parts: Parts,
    numbers: Mapping[str, Any],
    *,
    upstream: list[Stage],
    seed: int | None = None,
) -> Provenance:
    """What made a stage: its parts with all their options, and the numbers of its own."""
    modules = [f"puriflow.stages.{stage}", *(m for p in parts.values() for m in p.modules())]
    return {
        "stage": stage,
        "parameters": {role: part.complete() for role, part in parts.items()} | dict(numbers),
        "seed": seed,
        "code": code_hash(*modules),
        "weights": weights_hashes(parts.values()),
        "versions": versions(*modules),
        "upstream": {str(one.folder): one.identity for one in upstream},
    }


def check_rows(arrays: Arrays, where: str, count: int) -> None:
    """Check that arrays are finite, with a row for each of `count` samples and their names' axes.

    Raises:
        UserError: one is not.
    """
    for name, values in arrays.items():
        axes = AXES.get(name, ())
        if values.ndim != 1 + len(axes) or len(values) != count:
            wanted = ", ".join((str(count), *axes))
            raise UserError(f"{where}: {name} must be ({wanted}), but are {values.shape}")
        if not np.isfinite(values).all():
            raise UserError(f"{where}: {name} have NaN or infinity")


def check_images(
    images: np.ndarray, where: str, *, bounded: bool = True, shape: tuple[int, ...] | None = None
) -> None:
    """Check a batch of images at the border of a stage.

    Raises:
        UserError: not float32 (n, 3, H, W), of another shape than `shape`, not finite, or (if
            `bounded`) not in [0, 1].
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.float32:
        raise UserError(
            f"{where}: images must be float32 (n, 3, height, width), but are "
            f"{images.dtype} {images.shape}"
        )
    if shape is not None and images.shape != shape:
        raise UserError(f"{where}: images must be {shape}, but are {images.shape}")
    if not np.isfinite(images).all():
        raise UserError(f"{where}: images have NaN or infinity")
    if bounded and images.size and (images.min() < 0 or images.max() > 1):
        raise UserError(
            f"{where}: images must lie in [0, 1], but span {images.min():.4g} to {images.max():.4g}"
        )
