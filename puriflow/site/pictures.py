"""The images of a row as files beside the page: clean, attacked, restored, purified.

Small images are PNG, as they are. Larger ones are WebP of high quality, since a page of PNG of 224
pixels would have a hundred MB; the stores have every digit.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.datasets.names import class_names
from puriflow.errors import UserError
from puriflow.options import Named
from puriflow.results.measures import Stores
from puriflow.store import Stage

BEHIND_RESULTS = False
SHOWN = 6  # images of a row
SMALL = 64  # pixels of a side up to which a PNG has a few kB


class Album:
    """The images of rows, each written once, however many rows share it.

    Args:
        stores: that have them.
        folder: of the page; the files go into `images/` there.
    """

    def __init__(self, stores: Stores, folder: Path):
        self.stores, self.folder = stores, folder
        self.written: dict[tuple[str, int], str] = {}

    def of(self, clean: Chain, attacked: Chain) -> list[dict[str, Any]]:
        """The first images of a row under one attack: labels, and files with what is said of them.

        Raises:
            UserError: a store is not as it should be.
        """
        first = self.stores.shards(clean, "images")[0]
        labels = first.read("label", 0, SHOWN)
        stages = list(self._stages(clean, attacked))
        answers = {
            "clean": self._answers(replace(clean, restorer=NONE, purifier=NONE, n_draws=1)),
            "attacked": self._answers(replace(attacked, restorer=NONE, purifier=NONE, n_draws=1)),
            "defended": self._answers(attacked),
        }
        names = _names(clean.dataset, answers["defended"])
        shown = []
        for i, label in enumerate(labels):
            files = []
            for what, stage, of in stages:
                says = _says(answers.get(of), i, names)
                files.append({"what": what, "file": self._file(stage, i), "says": says})
            defended = {
                "clean": _verdict(self._answers(clean), i, int(label), names),
                "attacked": _verdict(answers["defended"], i, int(label), names),
            }
            shown.append({"label": _name(names, int(label)), "stages": files, **defended})
        return shown

    def _stages(self, clean: Chain, attacked: Chain) -> Iterator[tuple[str, Stage, str]]:
        """What is shown of a row, with its first shard, and whose answer is about it."""
        yield "clean", self.stores.shards(clean, "images")[0], "clean"
        yield "attacked", self.stores.shards(attacked, "attack")[0], "attacked"
        if attacked.restorer != NONE:
            last = attacked.purifier == NONE
            stage = self.stores.shards(attacked, "restore")[0]
            yield "restored", stage, "defended" if last else ""
        if attacked.purifier != NONE:
            yield "purified", self.stores.shards(attacked, attacked.final)[0], "defended"

    def _answers(self, chain: Chain) -> np.ndarray | None:
        """Logits of the first images by a chain (n, draws, classes), if they are stored."""
        try:
            stage = self.stores.shards(chain, chain.last)[0]
        except UserError:
            return None  # nobody asked the classifier alone
        logits = stage.read("answers" if chain.n_draws > 1 else "logits", 0, SHOWN)
        return logits if logits.ndim == 3 else logits[:, None]

    def _file(self, stage: Stage, number: int) -> str:
        """The file of an image of a store, relative to the page."""
        key = stage.identity, number
        if key not in self.written:
            pixels = stage.read("images", number, number + 1)[0].clip(0, 1).transpose(1, 2, 0)
            picture = Image.fromarray((255 * pixels).round().astype(np.uint8))
            small = max(picture.size) <= SMALL
            name = f"images/{stage.identity[:12]}-{number}.{'png' if small else 'webp'}"
            (self.folder / "images").mkdir(exist_ok=True)
            picture.save(self.folder / name, quality=90, method=4)  # which a PNG has not
            self.written[key] = name
        return self.written[key]


def _names(dataset: str, answers: np.ndarray | None) -> list[str]:
    """The names of the classes of a data set, or their numbers."""
    known: dict[str, Named] = {"cifar10": "cifar10", "imagenet": "imagenet"}
    named = next((name for word, name in known.items() if dataset.startswith(word)), None)
    return [] if answers is None else list(class_names(answers.shape[-1], named))


def _name(names: list[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _says(answers: np.ndarray | None, number: int, names: list[str]) -> str:
    """What the first answer to an image is, in words; nothing where none is stored."""
    if answers is None or not len(answers[number:]):
        return ""
    return _name(names, int(answers[number, 0].argmax()))


def _verdict(
    answers: np.ndarray | None, number: int, label: int, names: list[str]
) -> dict[str, Any] | None:
    """The defence's answers to an image: the most frequent one, how many are right, of how many."""
    if answers is None:
        return None
    classes = answers[number].argmax(-1)
    most = int(np.bincount(classes).argmax())
    right = int((classes == label).sum())
    return {"says": _name(names, most), "right": right, "draws": len(classes)}
