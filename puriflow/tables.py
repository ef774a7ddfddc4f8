"""Tables of the paper as data: rows are chains of roles with the paper's own numbers beside them.

config/tables/NAME.yaml says which chains a table compares; one function builds any of them from the
stores of the chains. A row that the track cannot serve says why, and has no numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from puriflow.chain import Chain, shard_names
from puriflow.config import NONE, Config, validated
from puriflow.errors import Problem
from puriflow.metrics.accuracy import correct, cross_entropy, wilson
from puriflow.store import Stage, open_stage

COLUMNS = (
    "method",
    "type",
    "dataset",
    "classifier",
    "attack",
    "restorer",
    "purifier",
    "n",
    "standard",
    "standard_low",
    "standard_high",
    "robust",
    "robust_low",
    "robust_high",
    "paper_standard",
    "paper_robust",
    "seconds_per_image",
    "note",
)
# Families of the roles that a row names.
ROLES = {
    "dataset": "datasets",
    "attack": "attacks",
    "restorer": "restorers",
    "purifier": "purifiers",
    "classifier": "classifiers",
}


# Of `kind name`: what serves it, why it is unavailable, and (for a data set) its shards.
Roles = dict[str, dict[str, Any]]


class Paper(BaseModel):
    """The paper's numbers of a row, in percent; None where it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: float | None = Field(None, ge=0, le=100)
    robust: float | None = Field(None, ge=0, le=100)


class Row(BaseModel):
    """One chain: its roles, where they differ from the table's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    type: str
    dataset: str | None = None
    classifier: str | None = None
    attack: str | None = None
    restorer: str | None = None
    purifier: str | None = None
    paper: Paper = Paper()
    note: str = ""


class Table(BaseModel):
    """A table: the roles that its rows share, and the rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    dataset: str
    classifier: str
    attack: str
    restorer: str = NONE
    purifier: str = NONE
    rows: tuple[Row, ...] = Field(min_length=1)

    def role(self, row: Row, name: str) -> str:
        """The role of a row, or else the table's."""
        return getattr(row, name) or getattr(self, name)

    def chains(self, row: Row) -> dict[str, Chain]:
        """The chain of clean images, and that of images attacked through the bare classifier."""
        roles = {name: self.role(row, name) for name in ROLES}
        attack = roles.pop("attack")
        return {
            "clean": Chain(**roles),
            "attacked": Chain(**roles, attack=attack, victim=roles["classifier"]),
        }


def load_table(path: str | Path) -> Table:
    """Read and check a table's file.

    Raises:
        Problem: it is missing, or says something that is not known.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Problem(f"table {path}: {' '.join(str(error).split())}") from None
    return validated(Table, raw, f"table {path}")


def served(table: Table, config: Config) -> Roles:
    """What a table says of the roles that it names: all that it needs of a configuration.

    Raises:
        Problem: a row names a role that the configuration does not know.
    """
    roles: Roles = {}
    for row in table.rows:
        for kind, family in ROLES.items():
            if (name := table.role(row, kind)) != NONE:
                role = config.role(family, name)
                roles[f"{kind} {name}"] = {
                    "served_by": role.served_by or role.zoo or name,
                    "unavailable": config.why_unavailable(family, name),
                    "shards": getattr(role, "shards", None),
                }
    return roles


def unavailable(table: Table, row: Row, roles: Roles) -> str | None:
    """Why this track cannot serve a row; None if it can."""
    for kind in ROLES:
        role = f"{kind} {table.role(row, kind)}"
        if role in roles and (reason := roles[role]["unavailable"]):
            return f"{role}: {reason}"
    return None


def shards_of(chain: Chain, roles: Roles) -> list[str]:
    """Names of the shards of a chain's data set."""
    return shard_names(roles[f"dataset {chain.dataset}"]["shards"])


def needed(table: Table, roles: Roles) -> list[str]:
    """Folders, below the results, of all stores that a table reads, once each."""
    folders: dict[str, None] = {}
    for row in table.rows:
        if unavailable(table, row, roles) is None:
            for chain in table.chains(row).values():
                for shard in shards_of(chain, roles):
                    folders.update({chain.folder(stage, shard): None for stage in chain.stages()})
    return list(folders)


@dataclass(frozen=True)
class Measures:
    """What is measured of one chain."""

    n: int
    hits: int
    cross_entropy: float
    mse: float
    seconds_per_image: float | None

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """Percent correct, and the bounds of its 95 % Wilson interval."""
        low, high = wilson(self.hits, self.n)
        return 100 * self.hits / self.n, 100 * low, 100 * high


def measure(chain: Chain, shards: list[str], opened: Callable[[str], Stage]) -> Measures:
    """Measure a chain from its stores: accuracy, cross-entropy, MSE to the clean images, seconds.

    Seconds are those of the defence alone: restore, purify and classify.

    Args:
        chain: with a classifier.
        shards: names of the data set's shards.
        opened: opens a store by its path below the results.
    """
    hits: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    squares: list[np.ndarray] = []
    seconds: list[float | None] = []
    for shard in shards:
        stages = {s: opened(chain.folder(s, shard)) for s in chain.stages()}
        logits, labels = stages["classify"].read("logits"), stages["classify"].read("label")
        hits.append(correct(logits, labels))
        losses.append(cross_entropy(logits, labels))
        squares.append(_squared_errors(stages[chain.before("classify")], stages["images"]))
        timed = [s.seconds_per_image for n, s in stages.items() if n not in ("images", "attack")]
        seconds.append(None if None in timed else sum(timed))
    right = np.concatenate(hits)
    weights = [len(h) for h in hits]
    return Measures(
        n=len(right),
        hits=int(right.sum()),
        cross_entropy=float(np.concatenate(losses).mean()),
        mse=float(np.concatenate(squares).mean()),
        seconds_per_image=None if None in seconds else float(np.average(seconds, weights=weights)),
    )


def _squared_errors(final: Stage, clean: Stage, batch: int = 64) -> np.ndarray:
    """Mean squared error of every image (n,), on [0, 1]."""
    errors = []
    for start in range(0, clean.count, batch):
        a, b = (s.read("images", start, start + batch) for s in (final, clean))
        errors.append(((a - b) ** 2).mean(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(errors)


def build_table(
    table: Table, roles: Roles, results: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the CSV (design's columns), and all measures in long form."""
    rows: list[dict[str, Any]] = []
    measures: list[dict[str, Any]] = []
    measured: dict[Chain, Measures] = {}
    opened = cache(lambda folder: open_stage(results / folder))  # rows share stores
    for row in table.rows:
        out = _described(table, row, roles)
        rows.append(out)
        if (reason := unavailable(table, row, roles)) is not None:
            out["note"] = "; ".join(filter(None, [reason, row.note]))
            continue
        for side, chain in table.chains(row).items():
            if chain not in measured:
                measured[chain] = measure(chain, shards_of(chain, roles), opened)
            found = measured[chain]
            column = "standard" if side == "clean" else "robust"
            names = (column, f"{column}_low", f"{column}_high")
            values = dict(zip(names, found.accuracy, strict=True))
            out.update({k: round(v, 2) for k, v in values.items()})
            out["n"] = found.n
            if side == "attacked" and found.seconds_per_image is not None:
                out["seconds_per_image"] = float(f"{found.seconds_per_image:.4g}")
            measures.append(_measures_row(row, side, chain, found))
    return rows, measures


def _described(table: Table, row: Row, roles: Roles) -> dict[str, Any]:
    out: dict[str, Any] = dict.fromkeys(COLUMNS)
    out.update(method=row.method, type=row.type, note=row.note)
    for kind in ROLES:
        role = table.role(row, kind)
        out[kind] = NONE if role == NONE else roles[f"{kind} {role}"]["served_by"]
    out.update(paper_standard=row.paper.standard, paper_robust=row.paper.robust)
    return out


def _measures_row(row: Row, side: str, chain: Chain, found: Measures) -> dict[str, Any]:
    accuracy, low, high = found.accuracy
    return {
        "method": row.method,
        "images": side,
        **{name: getattr(chain, name) for name in ROLES},
        "n": found.n,
        "correct": found.hits,
        "accuracy": round(accuracy, 2),
        "accuracy_low": round(low, 2),
        "accuracy_high": round(high, 2),
        "cross_entropy": round(found.cross_entropy, 4),
        "mse": float(f"{found.mse:.4g}"),
        "seconds_per_image": found.seconds_per_image,
    }


def write_table(table: Table, roles: Roles, results: Path, out: Path, long: Path) -> None:
    """Write a table's CSV, and the long form of everything measured."""
    import pandas as pd

    rows, measures = build_table(table, roles, results)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64"})
    frame.to_csv(out, index=False)
    pd.DataFrame(measures).to_csv(long, index=False)


def final_images(
    table: Table, roles: Roles, results: Path, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """For a contact sheet: clean and attacked images (n, 3, H, W), then each row's purified."""
    shown: set[Chain] = set()
    for row in table.rows:
        if unavailable(table, row, roles) is not None:
            continue
        chain = table.chains(row)["attacked"]
        shard = shards_of(chain, roles)[0]
        for label, stage in (("clean", "images"), ("attacked", "attack")):
            start = Chain(chain.dataset) if stage == "images" else _attacked(chain)
            if start not in shown:
                shown.add(start)
                yield (
                    label,
                    open_stage(results / chain.folder(stage, shard)).read("images", 0, count),
                )
        if (last := chain.before("classify")) != "attack":
            stage = open_stage(results / chain.folder(last, shard))
            yield row.method, stage.read("images", 0, count)


def _attacked(chain: Chain) -> Chain:
    return Chain(chain.dataset, chain.attack, chain.victim)
