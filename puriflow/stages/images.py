"""The first stage: the images of one shard of a data set, decoded once."""

from pathlib import Path
from typing import Any

import numpy as np

from puriflow import registry
from puriflow.datasets.samples import chosen_indices
from puriflow.errors import UserError
from puriflow.stages.base import CPU_BATCH, check_images, provenance, run
from puriflow.store import Stage


def write_images(
    out: Path,
    name: str,
    spec: dict[str, Any],
    *,
    subset: int | None = None,
    subset_seed: int | list[int] = 0,
    shard: int = 0,
    shards: int = 1,
) -> Stage:
    """Store shard `shard` of `shards` of a data set.

    Raises:
        UserError: the data set cannot be read, or its images differ in size.
    """
    samples = registry.build("datasets", name, spec)
    indices = chosen_indices(samples, subset=subset, seed=subset_seed, shard=shard, shards=shards)
    labels = np.asarray(samples.labels, dtype=np.int64)[indices]
    first = samples.image(int(indices[0])).shape
    choice = {"subset": subset, "subset_seed": subset_seed, "shard": shard, "shards": shards}

    def compute(start: int, stop: int) -> dict[str, np.ndarray]:
        images = [samples.image(int(i)) for i in indices[start:stop]]
        for index, image in zip(indices[start:stop], images, strict=True):
            if image.shape != first:
                raise UserError(
                    f"dataset {name}: image {index} is {image.shape}, but the first is {first}; "
                    "set resize and crop"
                )
        stacked = np.stack(images)
        check_images(stacked, f"dataset {name}")
        return {"images": stacked}

    made_by = provenance(
        "images",
        {"dataset": name, **spec, **choice, "fingerprint": samples.fingerprint},
        modules=[registry.module_of("datasets", spec)],
        upstream=[],
    )
    return run(
        out,
        "images",
        labels=labels,
        indices=indices,
        made_by=made_by,
        compute=compute,
        batch=16 * CPU_BATCH,
    )
