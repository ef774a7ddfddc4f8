"""Records of others, from files: one of `puriflow.benchmark`, or a whole leaderboard of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from puriflow.benchmarking.record import SCHEMA, Benchmark
from puriflow.errors import UserError, on_disk
from puriflow.site.ours import Entry
from puriflow.site.protocols import gradient_of
from puriflow.store.manifest import read_json

BEHIND_RESULTS = False


def entries_of(file: Path) -> Iterator[Entry]:
    """A row for each rule of each record of a file.

    Raises:
        UserError: it cannot be read, is neither of the two, or its numbers do not fit each other.
    """
    for record in _records(file):
        gradients = tuple(gradient_of(record, attack) for attack in record.attacks)
        for rule in record.robust:
            yield Entry(record, rule, gradients, record.defence.name)


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
