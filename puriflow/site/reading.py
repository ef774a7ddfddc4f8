"""Records of others, from files: one of `puriflow.benchmark`, or a whole leaderboard of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from puriflow.benchmarking.record import SCHEMA, Benchmark
from puriflow.config import validated
from puriflow.errors import UserError, on_disk
from puriflow.site.ours import Entry
from puriflow.store.manifest import read_json

BEHIND_RESULTS = False


class Options(BaseModel):
    """What the page reads of an attack's options, whatever others there are."""

    model_config = ConfigDict(extra="allow")

    kind: str
    gradient: str | None = None
    version: str | None = None
    n_queries: int | None = None
    attacks: list["Options"] = []


def entries_of(file: Path) -> Iterator[Entry]:
    """A row for each rule of each record of a file.

    Raises:
        UserError: it cannot be read, is neither of the two, or its numbers do not fit each other.
    """
    for record in _records(file):
        for attack in record.attacks:
            validated(Options, attack.options, f"record {file}: options of {attack.name}")
        for rule in record.robust:
            yield Entry(record, rule, record.defence.name)


def _finite(raw: object) -> bool:
    """Whether JSON has numbers alone that others can read."""
    try:
        json.dumps(raw, allow_nan=False)
    except ValueError:
        return False
    return True


def _records(file: Path) -> Iterator[Benchmark]:
    with on_disk(file):
        _, raw = read_json(file, f"record {file}")
    if not _finite(raw):
        raise UserError(f"record {file} has NaN or infinity, which no JSON has")
    if not isinstance(raw, dict):
        raise UserError(f"record {file} is no object of JSON: give what puriflow.benchmark wrote")
    if "records" not in raw:
        where = f"record {file}"
        yield Benchmark.from_json(json.dumps(raw), where=where)
        return
    if raw.get("schema") != SCHEMA or not isinstance(raw["records"], list):
        raise UserError(f"leaderboard {file}: schema {raw.get('schema')!r:.40}, known is {SCHEMA}")
    for number, one in enumerate(raw["records"]):
        where = f"leaderboard {file}, record {number}"
        yield Benchmark.from_json(json.dumps(one), where=where)
