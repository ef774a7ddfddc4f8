"""The images of a table's contact sheet: clean, attacked, and what each row makes of them."""

from collections.abc import Iterable, Iterator

import numpy as np

from puriflow.chain import Chain
from puriflow.results.measures import Stores

SHOWN = 8  # images of a row of the sheet


def images(
    rows: Iterable[tuple[str, list[Chain]]], stores: Stores
) -> Iterator[tuple[str, np.ndarray]]:
    """Clean and attacked images (n, 3, H, W), then each row's purified ones, with their names.

    Args:
        rows: each row's method, and its chains of attacked images.
        stores: that have them.
    """
    shown: set[str] = set()
    for method, chains in rows:
        for chain in chains:
            last = (method, chain.final)
            for label, stage in (("clean", "images"), ("attacked", "attack"), last):
                store = stores.shards(chain, stage)[0]
                if str(store.folder) not in shown:
                    shown.add(str(store.folder))
                    yield label, store.read("images", 0, SHOWN)
    if not shown:
        yield "nothing is served", np.zeros((0, 3, 1, 1), np.float32)
