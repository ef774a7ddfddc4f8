"""What every result is: a file of config/ about chains of roles, and what is built of their stores.

A kind of result is a module of this package whose class says the `folder` of its files
(puriflow.results.finding). All that depends on the track is asked from the track itself. Nothing
heavy is imported here: the workflow reads results whenever it is parsed.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from pydantic import field_validator

from puriflow.chain import shard_names
from puriflow.compute import THREADS, on_threads
from puriflow.config import NONE, Config, validated
from puriflow.config import track as tracks
from puriflow.errors import UserError
from puriflow.provenance import identified
from puriflow.registry import Part
from puriflow.results.columns import read_csv
from puriflow.results.documents import Block
from puriflow.results.served import here
from puriflow.weight_files import Weights

if TYPE_CHECKING:
    import pandas as pd
    import torch

Files = dict[str, Path]  # by form
Lines = Collection[str]
Device: TypeAlias = "torch.device | None"
# What claims are judged by: a value of one image, or of one repeat, a row.
log = logging.getLogger(__name__)
EVIDENCE = ("line", "layer", "index", "metric", "value", "note")


class Model(tracks.Model, extra="forbid"):
    """What a file of config/ says, and no more; a text of it is one line."""

    @field_validator("*")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str):
                tracks.one_line(one)
        return value


class Result(Model):
    """A result: what its kind says, and what follows from that.

    An *item* is what has numbers of its own: a row of a table, a line of a figure. A method that
    asks a track raises a UserError where an item names a role that the track does not know.
    """

    folder: ClassVar[str]  # of config/
    times: ClassVar[bool] = False  # whether its numbers are seconds, of any number of threads

    title: str
    source: str

    @classmethod
    def load(cls, raw: object, where: str) -> Self:
        """Check what a file says."""
        return validated(cls, raw, where)

    # What a kind says

    @property
    def computes(self) -> bool:
        """Whether it needs a device: reading stores does not."""
        return False

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        """The files of a result by form, as paths below the results."""
        raise NotImplementedError

    def items(self) -> Iterable[Any]:
        """All items but those that are only quoted."""
        raise NotImplementedError

    def roles(self, item: Any, /) -> Iterator[tuple[str, str]]:
        """Role and name of all that an item's numbers need of the track, without `none`."""
        raise NotImplementedError

    def reads(self, track: Config, item: Any, /) -> Iterable[str]:
        """Folders, below the results, of the stores that an item reads."""
        raise NotImplementedError

    def parts_of(self, item: Any, /) -> Iterable[tuple[str, str]]:
        """Role and name of the parts with which it computes an item's numbers itself."""
        return ()

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        """Build it from the stores below `results` and write its files, by form."""
        raise NotImplementedError

    def check(self, track: Config) -> None:
        """Check what is known of a track before anything of it is computed.

        Raises:
            UserError: the result cannot be built on it.
        """

    # What follows

    def unavailable(self, track: Config, item: Any, /) -> str | None:
        """Why a track cannot serve an item; None if it can."""
        for role, name in self.roles(item):
            if reason := track.served(role, name).unavailable:
                return f"{role} {name}: {reason}"
        return None

    def served(self, track: Config) -> list[Any]:
        """The items that a track can serve."""
        return [item for item in self.items() if self.unavailable(track, item) is None]

    def heading(self, track: Config) -> str:
        """What stands above its pictures: source, title, and in a second line what serves it."""
        named = (named for item in self.served(track) for named in self.roles(item))
        return f"{self.source}: {self.title}\n{here(track, named)}"

    def stores(self, track: Config) -> list[str]:
        """Folders, below the results, of all stores that it reads, once each."""
        self.check(track)
        folders = (folder for item in self.served(track) for folder in self.reads(track, item))
        return list(dict.fromkeys(folders))

    def parts(self, track: Config) -> list[Part]:
        """The parts with which it computes itself, once each."""
        named = (named for item in self.served(track) for named in self.parts_of(item))
        return [track.part(role, name) for role, name in dict.fromkeys(named)]

    def weights(self, track: Config) -> list[Weights]:
        """The files of weights that its numbers need, whether it loads them or a stage does."""
        named = (named for item in self.served(track) for named in self.roles(item))
        parts = (track.part(role, name) for role, name in dict.fromkeys(named))
        return list(dict.fromkeys(file for part in parts for file in part.files()))

    def files(self, track: Config) -> list[str]:
        """Files, below the results, that it reads beside the stores."""
        return []

    def trigger(self, track: Config) -> dict[str, Any]:
        """All of a track that it depends on, as plain data: it is built anew when that changes."""
        roles: dict[str, dict[str, Any]] = {}
        parts: dict[str, dict[str, Any]] = {}
        for role, name in dict.fromkeys(named for i in self.items() for named in self.roles(i)):
            shards = {"shards": track.dataset(name).shards} if role == "dataset" else {}
            served = track.served(role, name)._asdict() | shards
            roles.setdefault(role, {})[name] = served
        for part in self.parts(track):
            parts.setdefault(part.role, {})[part.name] = identified(part)
        return {"roles": roles, "parts": parts}

    def modules(self) -> list[str]:
        """Names of the modules behind it; what they import follows from them."""
        return [type(self).__module__, *(["puriflow.compute"] if self.computes else [])]

    def build(
        self, track: Config, name: str, results: Path, device: Device, stores: Path | None = None
    ) -> list[Path]:
        """Build a result and write all of its files.

        Args:
            track: what serves its roles.
            name: of its file, without ending.
            results: where its files go.
            device: to compute on, if it computes.
            stores: where the stores are, with the audits that it reads; by default `results`.

        Returns:
            The files.

        Raises:
            UserError: a store or a part is not as it should be, or a file cannot be written.
        """
        self.check(track)
        files = {form: results / path for form, path in self.outputs(name).items()}
        make_folders(files.values())
        with on_threads(THREADS) if self.computes and not self.times else nullcontext():
            self.write(track, files, results if stores is None else stores, device)
        return list(files.values())


class Judged(Result):
    """A result that claims are about: it leaves the value of every image, and has a page."""

    measures: ClassVar[tuple[str, ...]] = EVIDENCE  # columns of results/measures/NAME.csv

    @classmethod
    def of_paper(cls, name: str) -> bool:
        """Whether it is one of the paper's own results."""
        return True

    def lines_of_claims(self) -> list[str]:
        """The lines of which claims may speak, as its evidence calls them."""
        raise NotImplementedError

    def evidence(self, track: Config, name: str, results: Path, lines: Lines) -> "pd.DataFrame":
        """The values by which claims about some of its lines are judged: `EVIDENCE`.

        It may have a column `paper` with the paper's numbers. A line that was not measured has a
        note that says why, and no value.

        Raises:
            UserError: there is no such line, or its numbers are not there.
        """
        return read_csv(results / self.outputs(name)["measures"], self.measures)

    def columns(self) -> tuple[str, ...]:
        """The columns that its CSV must have for its page."""
        raise NotImplementedError

    def page(self, rows: "pd.DataFrame") -> list[Block]:
        """What its page says of it, from its CSV."""
        raise NotImplementedError


def shards_of(track: Config, dataset: str) -> list[str]:
    """Names of the shards of a data set."""
    return shard_names(track.dataset(dataset).shards)


def served_by(track: Config, role: str, name: str) -> str:
    """What serves a role on a track, in the words of tables."""
    return NONE if name == NONE else track.served(role, name).by


def notes(track: Config, roles: Iterable[tuple[str, str]]) -> list[str]:
    """What a track does otherwise in roles."""
    return [track.served(role, name).note for role, name in roles]


def joined(*notes: str | None) -> str:
    """Notes as one, each once."""
    return "; ".join(filter(None, dict.fromkeys(notes)))


def failures(rows: "pd.DataFrame", name: str) -> list[Block]:
    """A paragraph about the rows of a CSV that have an `attack_failed`; none if there are none.

    Args:
        rows: of the CSV.
        name: the column of what they are called.
    """
    failed = list(rows.dropna(subset="attack_failed")[name])
    return failed and [
        f"An attack failed on {', '.join(failed)}: more answers are right under it than without, "
        "beyond chance (95 %, image by image). No claim is judged by what it alone says."
    ]


def say_failures(rows: Iterable[Mapping[Any, Any]], name: str) -> None:
    """Say on the command line which of some rows have an `attack_failed`; `name` as above."""
    for row in rows:
        if isinstance(why := row.get("attack_failed"), str):
            log.warning(f"an attack failed on {row[name]}: {why}")


def make_folders(files: Iterable[Path]) -> None:
    """Make the folders of files that will be written, before anything is computed."""
    for file in files:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {file.parent} cannot be made: {error.strerror}") from None
        if file.is_dir():
            raise UserError(f"{file} is a folder, but must be a file")
