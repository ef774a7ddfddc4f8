"""The images of a table's contact sheet: clean, attacked, and what each row makes of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from puriflow.config import Config
from puriflow.results.measures import Stores

if TYPE_CHECKING:
    from puriflow.results.table import Table

SHOWN = 8  # images of a row of the sheet


def images(table: "Table", track: Config, stores: Stores) -> Iterator[tuple[str, np.ndarray]]:
    """Clean and attacked images (n, 3, H, W), then each row's purified ones, with their names."""
    shown: set[str] = set()
    for row in table.served(track):
        for chain in table.chains(track, row)[1]:
            last = (row.method, chain.final)
            for label, stage in (("clean", "images"), ("attacked", "attack"), last):
                store = stores.shards(chain, stage)[0]
                if str(store.folder) not in shown:
                    shown.add(str(store.folder))
                    yield label, store.read("images", 0, SHOWN)
    if not shown:
        yield "nothing is served", np.zeros((0, 3, 1, 1), np.float32)
