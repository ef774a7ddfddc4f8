"""The pictures of a table: its bars, and the sheet of clean, attacked and purified images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.results.measures import Stores
from puriflow.results.served import here, renamed

if TYPE_CHECKING:
    import pandas as pd

    from puriflow.config import Config
    from puriflow.plots.sheets import Row as Tiles
    from puriflow.results.base import Files
    from puriflow.results.rows import Row
    from puriflow.results.table import Table

SHOWN = 8  # images of a row of the sheet
RENAMED = ("restorer", "classifier")  # roles that the name of a row may spell
WORDS = (
    "right: the first answer is the true class. fooled: it is not, and is on the clean image. "
    "wrong: it is not on the clean image either. Images without a word are no defence's own input."
)


class Chains(NamedTuple):
    """The chains of a row: of clean images, and of those of each attack, by its words."""

    method: str
    clean: Chain
    attacked: dict[str, Chain]


def draw(
    table: "Table", track: "Config", numbers: "pd.DataFrame", stores: Stores, files: "Files"
) -> None:
    """Draw a table's pictures as the files `png` and `sheet`.

    Args:
        table: which is drawn.
        track: what serves it.
        numbers: a row each, of the table's columns.
        stores: of its chains.
        files: by form.
    """
    from puriflow.plots import bars, cost, sheets
    from puriflow.plots.style import save, styled

    served = table.served(track)
    named = [named for row in served for named in table.roles(row)]
    title = f"{table.source}: {table.title}\n{here(track, named)}"
    drawn = {"bars": bars.draw, "cost": cost.draw}[table.picture]
    methods = [method(table, track, row) for row in table.rows]
    with styled(text=10):
        save(drawn(numbers.assign(method=methods), title), [files["png"]])
    tiles = images([chains(table, track, row) for row in served], stores)
    sheets.contact_sheet(tiles, files["sheet"], above=title, below=WORDS)


def method(table: "Table", track: "Config", row: "Row") -> str:
    """What a row is called in pictures: by what served, where its name spells a role's."""
    if row.quoted is not None or table.unavailable(track, row):
        return row.method
    names = {role: table.role(row, role) for role in RENAMED}
    by = {name: track.served(role, name).by for role, name in names.items() if name != NONE}
    return renamed(row.method, by)


def chains(table: "Table", track: "Config", row: "Row") -> Chains:
    """The chains of a row that is served."""
    clean, attacked = table.chains(track, row)
    on = f" on {track.served('classifier', clean.classifier).by}"
    words = [
        threat.served_by(track) + (on if threat.victim == "classifier" else "")
        for threat in table.role(row, "attack")
    ]
    return Chains(method(table, track, row), clean, dict(zip(words, attacked, strict=True)))


def images(rows: Sequence[Chains], stores: Stores) -> "Iterator[Tiles]":
    """Clean and attacked images, how they differ, and what each row makes of them.

    Each store is shown once, with what the classifier says of its images if it is given them as
    they are; if two classifiers are, nothing is said.
    """
    from puriflow.plots.sheets import Row as Tiles
    from puriflow.plots.sheets import difference

    said: dict[Path, dict[str, list[str]]] = {}
    for row in rows:
        for chain in (row.clean, *row.attacked.values()):
            given = stores.shards(chain, chain.final)[0].folder
            said.setdefault(given, {})[chain.classifier] = judged(stores, row.clean, chain)
    shown: set[Path] = set()
    for row in rows:
        for words, chain in row.attacked.items():
            attacked = f"attacked by {words}"
            purified = row.method if len(row.attacked) == 1 else f"{row.method}, {attacked}"
            clean = stores.shards(chain, "images")[0].read("images", 0, SHOWN)
            if "on the defence" in words:
                attacked += f": {row.method}"
            for label, stage in (
                ("clean", "images"),
                (attacked, "attack"),
                (purified, chain.final),
            ):
                store = stores.shards(chain, stage)[0]
                if store.folder in shown:
                    continue
                shown.add(store.folder)
                own, answers = store.read("images", 0, SHOWN), said.get(store.folder, {})
                yield Tiles(label, own, *(answers.values() if len(answers) == 1 else ()))
                if stage == "attack":
                    change, gain = difference(clean, own)
                    enlarged = f", x\N{NO-BREAK SPACE}{gain}" if (own != clean).any() else ": none"
                    yield Tiles(f"attacked less clean{enlarged}", change)
    if not shown:
        yield Tiles("nothing is served", np.zeros((0, 3, 1, 1), np.float32))


def judged(stores: Stores, clean: Chain, chain: Chain) -> list[str]:
    """A word for each image that is shown of a chain; `clean` is that of the same defence."""
    both = [stores.measure(c).right["first"][:SHOWN] > 0.5 for c in (clean, chain)]
    fooled = ["wrong", "fooled"]
    return ["right" if own else fooled[int(before)] for before, own in zip(*both, strict=True)]
