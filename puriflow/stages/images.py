"""The first stage: the images of one shard of a data set, decoded once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from puriflow.datasets.samples import chosen_indices
from puriflow.errors import UserError
from puriflow.provenance import machine
from puriflow.registry import Part
from puriflow.stages.base import Arrays, check_images, fill, provenance
from puriflow.store import Stage, Writer

BATCH = 64  # images decoded between two saves


def write_images(
    out: Path,
    dataset: Part,
    *,
    subset: int | None = None,
    subset_seeds: Sequence[int] = (0,),
    shard: int = 0,
    shards: int = 1,
) -> Stage:
    """Store shard `shard` of `shards` of a data set.

    Args:
        out: folder of the store.
        dataset: the data set.
        subset: how many images are drawn; None for all.
        subset_seeds: of the draw; the union of as many draws.
        shard: counted from 0.
        shards: into how many the images are cut.

    Raises:
        UserError: the images differ in size.
    """
    samples, seeds = dataset.build(), list(subset_seeds)
    indices = chosen_indices(samples, subset=subset, seeds=seeds, shard=shard, shards=shards)
    first = samples.image(int(indices[0])).shape

    def decoded(start: int, stop: int) -> Arrays:
        images = [samples.image(int(i)) for i in indices[start:stop]]
        for index, image in zip(indices[start:stop], images, strict=True):
            if image.shape != first:
                raise UserError(
                    f"dataset {dataset.name}: image {index} is {image.shape}, but the first is "
                    f"{first}; set resize and crop"
                )
        stacked = np.stack(images)
        check_images(stacked, f"dataset {dataset.name}")
        return {"images": stacked}

    numbers = {"subset": subset, "subset_seeds": seeds, "shard": shard, "shards": shards}
    numbers["fingerprint"] = samples.fingerprint
    writer = Writer(
        out,
        "images",
        labels=np.asarray(samples.labels, dtype=np.int64)[indices],
        indices=indices,
        provenance=provenance("images", {"dataset": dataset}, numbers, upstream=[]),
        machine=machine(),
    )
    return fill(writer, decoded, batch=BATCH)
