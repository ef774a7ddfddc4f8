"""The pictures of a table: its bars, and the sheet of clean, attacked and purified images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.results.measures import Stores
from puriflow.results.served import distinct, renamed

if TYPE_CHECKING:
    import pandas as pd

    from puriflow.config import Config
    from puriflow.plots.sheets import Row as Tiles
    from puriflow.results.base import Files
    from puriflow.results.rows import Row

SHOWN = 8  # images of a row of the sheet
RENAMED = ("restorer", "classifier")  # roles that the name of a row may spell
WORDS = (
    "right: the first answer is the true class. fooled: it is not, and is on the clean image. "
    "wrong: it is not on the clean image either. Images without a word are no defence's own input."
)


class Shown(NamedTuple):
    """A row of a table.

    Attributes:
        row: itself.
        names: of its roles, and its attacks.
        chains: of clean images, and of those of each attack; None of a row that is not served.
    """

    row: "Row"
    names: Mapping[str, Any]
    chains: tuple[Chain, list[Chain]] | None

    def called(self, track: "Config") -> str:
        """What it is called: by what serves, where its name spells that of a role."""
        if self.row.quoted is not None:
            return self.row.method
        spelled = {self.names[role]: role for role in RENAMED if self.names[role] != NONE}
        by = {name: track.served(role, name).by for name, role in spelled.items()}
        return renamed(self.row.method, by)

    def tiles(self, track: "Config") -> "Chains | None":
        """Its chains, by what it and its attacks are called."""
        if self.chains is None:
            return None
        clean, attacked = self.chains
        on = f" on {track.served('classifier', clean.classifier).by}"
        words, chains = {}, {}
        for threat, chain in zip(self.names["attack"], attacked, strict=True):
            name = threat.words(threat.attack, threat.surrogate)
            words[name] = threat.served_by(track) + (on if threat.victim == "classifier" else "")
            chains[name] = chain
        said = distinct(words)
        return Chains(self.called(track), clean, {said[name]: chains[name] for name in said})


class Chains(NamedTuple):
    """The chains of a row: of clean images, and of those of each attack, by its words."""

    method: str
    clean: Chain
    attacked: dict[str, Chain]


def draw(
    picture: str,
    title: str,
    numbers: "pd.DataFrame",
    rows: Sequence[Shown],
    stores: Stores,
    files: "Files",
) -> None:
    """Draw a table's pictures as the files `png` and `sheet`.

    Args:
        picture: `bars` or `cost`.
        title: above each.
        numbers: of the rows, by the table's columns.
        rows: of the table.
        stores: of their chains.
        files: by form.
    """
    from puriflow.plots import bars, cost, sheets
    from puriflow.plots.style import save, styled

    drawn = {"bars": bars.draw, "cost": cost.draw}[picture]
    named = numbers.assign(method=[row.called(stores.track) for row in rows])
    with styled(text=10):
        save(drawn(named, title), [files["png"]])
    tiles = images([*filter(None, (row.tiles(stores.track) for row in rows))], stores)
    sheets.contact_sheet(tiles, files["sheet"], above=title, below=WORDS)


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
