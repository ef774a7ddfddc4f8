"""How two stores, tables or records of benchmarks differ, and why: what made them differs, too."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from puriflow.benchmarking.record import Benchmark
from puriflow.errors import UserError, on_disk
from puriflow.store import Stage, open_stage
from puriflow.store.manifest import MANIFEST, read_manifest

BEHIND_RESULTS = False
# Of a manifest, what made the store; what is not in it follows from these, or is where it lies.
MADE_BY = ("stage", "parameters", "seed", "code", "weights", "versions", "machine")
RECORD = "benchmark.json"


def differences(a: Path, b: Path) -> list[str]:
    """How two of a kind differ: a line each; empty if they do not.

    Raises:
        UserError: one is not there, or they are not of one kind.
    """
    kinds = [_kind(path) for path in (a, b)]
    if kinds[0] != kinds[1]:
        raise UserError(f"{a} is a {kinds[0]}, but {b} is a {kinds[1]}: give two of a kind")
    return list({"store": of_stores, "record": of_records, "table": of_tables}[kinds[0]](a, b))


def _kind(path: Path) -> str:
    """What a path is of."""
    with on_disk(path):
        if path.name == MANIFEST or (path / MANIFEST).is_file():
            return "store"
        if path.suffix == ".json" or (path / RECORD).is_file():
            return "record"
        if path.suffix == ".csv" and path.is_file():
            return "table"
        path.stat()
    raise UserError(
        f"{path} is no store (a folder with {MANIFEST}), table (.csv) or record of a benchmark "
        "(.json, or its folder)"
    )


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested data as plain values by dotted names."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= flat(inner, f"{name}.{key}" if name else str(key))
        return found
    return {name: value}


def of_data(a: Any, b: Any) -> Iterator[str]:
    """Values that two pieces of data do not share."""
    one, other = flat(a), flat(b)
    for name in dict.fromkeys([*one, *other]):
        mine, its = (_shown(side.get(name, "(nothing)")) for side in (one, other))
        if one.get(name) != other.get(name) or (name in one) != (name in other):
            yield f"{name}: {mine} | {its}"


def _shown(value: Any) -> str:
    """A value, of which a hash is cut short."""
    text = value if isinstance(value, str) else json.dumps(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:12] if is_hash else text


def of_stores(a: Path, b: Path) -> Iterator[str]:
    """What made two stores, and then how many samples of each array differ, and how far."""
    one, other = open_stage(a), open_stage(b)
    made = ({key: stage.manifest[key] for key in MADE_BY} for stage in (one, other))
    yield from of_data(*made)
    if one.count != other.count:
        yield f"samples: {one.count} | {other.count}"
        return
    for name in ("index", "label"):
        if not np.array_equal(one.read(name), other.read(name)):
            yield f"{name}: of other samples, or in another order"
            return
    arrays = one.manifest["arrays"], other.manifest["arrays"]
    for name in dict.fromkeys([*arrays[0], *arrays[1]]):
        if name not in arrays[0] or name not in arrays[1]:
            yield f"{name}: only in {a if name in arrays[0] else b}"
        elif (line := _of_arrays(name, one, other)) is not None:
            yield line


def _of_arrays(name: str, one: Stage, other: Stage, step: int = 64) -> str | None:
    """In how many samples an array differs, and by how much at most."""
    shapes = [stage.manifest["arrays"][name]["shape"] for stage in (one, other)]
    if shapes[0] != shapes[1]:
        return f"{name}: {tuple(shapes[0])} | {tuple(shapes[1])}"
    samples, most = 0, 0.0
    for start in range(0, one.count, step):
        x, y = (s.read(name, start, start + step).astype(np.float64) for s in (one, other))
        apart = np.abs(x - y).reshape(len(x), -1).max(axis=1)
        samples += int((apart > 0).sum())
        most = max(most, float(apart.max()))
    return (
        f"{name}: {samples} of {one.count} samples differ, by up to {most:.3g}" if samples else None
    )


def of_records(a: Path, b: Path) -> Iterator[str]:
    """What made two records, their numbers, and how many images fared otherwise."""
    files = [path / RECORD if path.is_dir() else path for path in (a, b)]
    records = [Benchmark.from_json(file, where=f"record {file}") for file in files]
    said = [record.model_dump(by_alias=True) for record in records]
    images = [one.pop("images") for one in said]
    for one in said:
        one["attacks"] = {attack.pop("name"): attack for attack in one["attacks"]}
        if isinstance(one["audit"], dict):
            checks = one["audit"]["checks"]
            one["audit"] = {check["name"]: check["verdict"] for check in checks}
    yield from of_data(*said)
    if len(images[0]) == len(images[1]):
        others = sum(x != y for x, y in zip(*images, strict=True))
        if others:
            yield f"images: {others} of {len(images[0])} fared otherwise"


def of_tables(a: Path, b: Path) -> Iterator[str]:
    """Cells that differ, by row; then how the stores differ that lie below both their folders."""
    try:
        frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in (a, b)]
    except ValueError as error:  # as all that pandas raises about a file's content
        raise UserError(f"{a} or {b} is no table: {error}") from None
    rows = [[dict(row) for row in frame.to_dict("records")] for frame in frames]
    if len(rows[0]) != len(rows[1]):
        yield f"rows: {len(rows[0])} | {len(rows[1])}"
    for number, (one, other) in enumerate(zip(*rows, strict=False)):
        first = next(iter(one.values()), "")
        yield from (f"row {number + 1}, {first}: {line}" for line in of_data(one, other))
    yield from _of_results(a.parent, b.parent)


def _of_results(a: Path, b: Path) -> Iterator[str]:
    """How many stores of the same place below two folders were made otherwise, and in what."""
    places = [{file.relative_to(root) for file in root.rglob(MANIFEST)} for root in (a, b)]
    both = sorted(places[0] & places[1]) if a != b else []
    found: Counter[str] = Counter()
    others = 0
    for place in both:
        manifests = [read_manifest((root / place).parent) for root in (a, b)]
        made = ({key: manifest[key] for key in MADE_BY} for manifest in manifests)
        lines = list(of_data(*made))
        others += bool(lines)
        found.update(dict.fromkeys((line.partition(": ")[0] for line in lines), 1))
    if others:
        yield f"stores: {others} of {len(both)} in the same place of both were made otherwise, in:"
        yield from (f"  {name} ({count})" for name, count in found.most_common(20))
