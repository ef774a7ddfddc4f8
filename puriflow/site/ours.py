"""What this track's stores add to a record: the paper's claim, costs, chain, weights, images."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

from puriflow.benchmarking.record import Benchmark
from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.errors import NotBuilt, UserError
from puriflow.metrics.rules import Rule
from puriflow.results import find, load_result, names
from puriflow.results.base import served_by
from puriflow.results.costs import cost_of_purifier
from puriflow.results.measures import Stores
from puriflow.results.rows import Row
from puriflow.results.table import Table
from puriflow.sharing.leaderboard import record_of, rows_of, stages
from puriflow.site.pictures import Album
from puriflow.store import Stage

BEHIND_RESULTS = False
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A record by one of its rules, and what is known beside it.

    Attributes:
        name: of the row.
        dataset: in words; empty where only the hash of its images is known.
        more: fields of the page's row that a record has not.
    """

    record: Benchmark
    rule: Rule
    name: str
    dataset: str = ""
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Found:
    """The rows of a track that are built, and those that are not.

    Attributes:
        quoted: rows that the paper only quotes, or that the track cannot serve, and why.
        missing: how many rows are not built.
        broken: why others have no record.
    """

    entries: list[Entry] = field(default_factory=list)
    quoted: list[dict[str, Any]] = field(default_factory=list)
    missing: int = 0
    broken: dict[str, str] = field(default_factory=dict)


class Gathering:
    """Rows of the tables and sweeps of a track whose stores are below a folder of results.

    Args:
        track: of the results.
        results: the folder.
        config: the folder whose `tables/` and `sweeps/` say what rows there are.
        out: the folder of the page, for their images.
        configfile: of the track, for the command that builds a row again; None of the default one.
    """

    def __init__(
        self,
        track: Config,
        results: Path,
        config: Path,
        out: Path,
        configfile: Path | None = None,
    ):
        self.track, self.config = track, config
        self.given = "" if configfile is None else f" --configfile {_below(results, configfile)}"
        self.stores = Stores(track, results)
        self.album = Album(self.stores, out)
        self.evaluations = cache(lambda *of: cost_of_purifier(track, *of)["evaluations"])
        self.target = cache(self._target)

    def found(self) -> Found:
        """All that is built, and what is not."""
        found, built = Found(), set()
        for title, table, row in rows_of(self.track, self.config):
            try:
                found.entries.append(self.entry(title, table, row))
            except NotBuilt:
                found.missing += 1
            except UserError as error:
                found.broken[title] = str(error)
            else:
                built.add(title.partition(": ")[0])
        for name in names(self.config).get("tables", []):
            if name in built:
                found.quoted += self._not_run(name)
        return found

    def entry(self, title: str, table: Table, row: Row) -> Entry:
        """A row of a table, or of what a sweep has of one.

        Raises:
            UserError: its stores are not there, or are not what the track says.
        """
        track, stores = self.track, self.stores
        record = record_of(title, table, row, stores)
        clean, attacked = table.chains(track, row)
        least = attacked[min(range(len(attacked)), key=lambda i: _share(record, i))]
        result = title.partition(": ")[0]
        stored = [*stages(clean, stores), *(s for c in attacked for s in stages(c, stores))]
        side = stores.shards(clean, "images")[0].manifest["arrays"]["images"]["shape"][-1]
        failed = table.failed(track, row, stores).items()
        return Entry(
            record=record,
            rule=track.evaluation(table.role(row, "evaluation")).rule,
            name=record.defence.name,
            dataset=served_by(track, "dataset", clean.dataset),
            more={
                "type": row.type,
                "paper": _claim(result, table, row),
                "seconds": stores.measure(attacked[0]).seconds_per_image,
                "evaluations": self.evaluations(clean.purifier, side),
                "note": row.note,
                "failed_attack": "; ".join(f"{c.attack}: {why}" for c, why in failed),
                "chain": _roles(least),
                "served": _served(track, least),
                "stores": _identities(stored, stores.results),
                "weights": {k: v for s in stored for k, v in s.manifest["weights"].items()},
                "command": f"snakemake {self.target(result)}{self.given}",
                "shown_attack": least.attack,
                "pictures": self.album.of(clean, least),
            },
        )

    def _target(self, name: str) -> str:
        """The file that Snakemake builds for a table or a sweep, in whatever folder it works."""
        return f"results/{load_result(find(name, self.config)).outputs(name)['csv']}"

    def _not_run(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a table that have no numbers of ours, and why."""
        table = load_result(find(name, self.config))
        assert isinstance(table, Table)
        for row in table.rows:
            why = f"quoted from {row.quoted}" if row.quoted else None
            why = why or table.unavailable(self.track, row)
            if why is not None:
                yield {"name": row.method, "why": why, **_claim(name, table, row)}


def _below(results: Path, file: Path) -> str:
    """A file by its path in the folder of the results' project; one elsewhere by its name alone.

    A page is published: it says nothing of the machine's other folders.
    """
    project, full = results.resolve().parent, file.resolve()
    return quote(str(full.relative_to(project) if full.is_relative_to(project) else full.name))


def _share(record: Benchmark, number: int) -> float:
    """What one of a record's attacks left, by the first of its rules."""
    return next(iter(record.attacks[number].robust.values())).share


def _claim(name: str, table: Table, row: Row) -> dict[str, Any]:
    """The paper's numbers of a row, and where they stand."""
    said = row.paper.model_dump(include={"standard", "robust", "n", "source"})
    return {"table": table.source if table.of_paper(name) else name, **said}


def _roles(chain: Chain) -> dict[str, str]:
    """The names along a chain, without `none`."""
    roles = ("dataset", "attack", "victim", "restorer", "purifier", "classifier")
    return {role: name for role in roles if (name := getattr(chain, role)) != NONE}


def _served(track: Config, chain: Chain) -> dict[str, str]:
    """What serves the roles of a chain, where it has another name."""
    roles = ("dataset", "attack", "restorer", "purifier", "classifier")
    by = {role: served_by(track, role, getattr(chain, role)) for role in roles}
    return {role: name for role, name in by.items() if name not in (NONE, getattr(chain, role))}


def _identities(stored: list[Stage], results: Path) -> dict[str, str]:
    """The stores behind a row: their folders below the results, with their hashes."""
    return {s.folder.relative_to(results).as_posix(): s.identity for s in stored}


def say_left_out(found: Found) -> None:
    """Say on the command line which rows have no record, in a line each where that is a fault."""
    for title, why in found.broken.items():
        log.warning(f"{title} is left out: {why}")
    if found.missing:
        log.warning(f"rows of tables and sweeps that are not built: {found.missing}")
