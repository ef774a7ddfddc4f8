"""Tables of fifty thousand images: of a store, no more is in memory than a batch of its images.

The stores have no chunks: Zarr gives what fills them, and nothing of it lies on the disk.
"""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr

from puriflow.chain import Chain
from puriflow.config import load_config
from puriflow.results import measures
from puriflow.results.measures import Stores
from puriflow.store import Stage
from puriflow.store.arrays import create_array

DRAWS, CLASSES, SIDE = 10, 100, 4
CHAIN = Chain("cifar10", purifier="vpsde-t100", classifier="wrn-28-10", n_draws=DRAWS)


def absent(folder: Path, count: int, **shapes: tuple[int, ...]) -> Stage:
    """A store of `count` samples whose arrays have no chunk, and which says that they are there."""
    group, arrays, files = zarr.create_group(folder / "some.zarr"), {}, {}
    for name, shape in {"label": (), "index": (), **shapes}.items():
        kind = np.dtype("float32" if name in shapes else "int64")
        made = create_array(group, name, kind, (count, *shape))
        arrays[name] = {"shape": [count, *shape], "dtype": str(kind)}
        for i in range(-(-count // made.shards[0])):
            files["/".join([name, "c", str(i), *("0" for _ in shape)])] = "absent"
    own = {name: arrays[name] for name in shapes}
    return Stage(folder, {"n": count, "store": "some.zarr", "arrays": own, "files": files})


def taken(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch, repository: Path) -> int:
    """Bytes that measuring a chain takes at most, of so many images."""
    image, answers = (3, SIDE, SIDE), (DRAWS, CLASSES)
    stores = Stores(load_config(repository / "config" / "config.yaml"), folder)
    of = {
        "images": absent(folder / "images", count, images=image),
        "evaluate": absent(folder / "evaluate", count, images=image, answers=answers, variance=()),
    }
    monkeypatch.setattr(measures, "IMAGES", measures.BATCH)  # which are small here
    monkeypatch.setattr(stores, "shards", lambda chain, stage: [of[stage]])
    tracemalloc.start()
    try:
        measured = stores.measure(CHAIN)
        assert len(measured) == count
        assert set(measured.metrics) == {"cross_entropy", "mse", "bias2", "variance"}
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_table_does_not_grow_with_its_images(tmp_path, monkeypatch, repository):
    few, many = (taken(tmp_path / str(n), n, monkeypatch, repository) for n in (2_000, 50_000))
    kept = 48_000 * 10 * 8  # six rules and four metrics of each image
    assert many - few < 3 * kept  # while they are put together
    assert 3 * kept < 48_000 * DRAWS * CLASSES * 4 / 10  # a tenth of the answers alone
