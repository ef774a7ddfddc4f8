"""Measuring chains from their stores, and the rows of a table (design's columns)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from puriflow.chain import Chain
from puriflow.config import NONE, Rule
from puriflow.metrics.accuracy import cross_entropy, judged, wilson
from puriflow.results.table import (
    ROLES,
    Roles,
    Row,
    Table,
    Threat,
    chains,
    evaluation,
    named,
    shards_of,
    unavailable,
)
from puriflow.store import Stage, open_stage

COLUMNS = (
    "method",
    "type",
    "dataset",
    "classifier",
    "attack",
    "evaluation",
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
    "paper_n",
    "paper_source",
    "seconds_per_image",
    "note",
)
# Before the note, of a table with `costs`: in billions and in millions.
COSTS = ("macs_g", "params_m", "paper_macs_g", "paper_params_m")


@dataclass(frozen=True)
class Measures:
    """What is measured of one chain.

    Attributes:
        right: by rule, how right the chain is about each image, (n,) in [0, 1].
        losses: cross-entropy of each image, the mean over draws, (n,), in nats.
        errors: mean squared errors, (n,) on [0, 1], of the images that are classified to the clean
            ones; None where they are not stored.
        seconds_per_image: of the defence alone (restore, purify and classify), for one draw.
    """

    right: dict[Rule, np.ndarray]
    losses: np.ndarray
    errors: np.ndarray | None
    seconds_per_image: float | None

    @property
    def cross_entropy(self) -> float:
        """Mean over images and draws, in nats."""
        return float(np.mean(self.losses))

    @property
    def mse(self) -> float | None:
        """Mean of the errors over images."""
        return None if self.errors is None else float(np.mean(self.errors))


def accuracy(right: np.ndarray) -> tuple[float, float, float]:
    """Percent right, and the bounds of its 95 % Wilson interval."""
    hits, count = float(right.sum()), len(right)
    low, high = wilson(hits, count)
    return 100 * hits / count, 100 * low, 100 * high


def measure(chain: Chain, shards: list[str], opened: Callable[[str], Stage]) -> Measures:
    """Measure a chain from its stores.

    Args:
        chain: with a classifier.
        shards: names of the data set's shards.
        opened: opens a store by its path below the results.
    """
    parts = [
        _measure_shard(chain, {s: opened(chain.folder(s, shard)) for s in chain.stages()})
        for shard in shards
    ]
    rules = parts[0].right
    counts = [len(part.losses) for part in parts]
    errors = [part.errors for part in parts]
    seconds = [part.seconds_per_image for part in parts]
    return Measures(
        right={rule: np.concatenate([part.right[rule] for part in parts]) for rule in rules},
        losses=np.concatenate([part.losses for part in parts]),
        errors=None if errors[0] is None else np.concatenate(errors),
        seconds_per_image=None if None in seconds else np.average(seconds, weights=counts).item(),
    )


def _measure_shard(chain: Chain, stages: dict[str, Stage]) -> Measures:
    last = stages[chain.last]
    labels = last.read("label")
    several = chain.last == "evaluate"
    logits = last.read("answers") if several else last.read("logits")[:, None]
    rules = [r for r in get_args(Rule) if r != "attack"] if several else ["first"]
    right = {rule: judged(logits, labels, rule) for rule in rules}
    if "attack" in stages and chain.adaptive:
        right["attack"] = 1.0 - stages["attack"].read("success")
    draws = logits.shape[1]
    timed = {n: s.seconds_per_image for n, s in stages.items() if n not in ("images", "attack")}
    spent = [t if t is None or n != "evaluate" else t / draws for n, t in timed.items()]
    losses = [cross_entropy(logits[:, draw], labels) for draw in range(draws)]
    final = None if several else stages[chain.before("classify")]
    return Measures(
        right=right,
        losses=np.mean(losses, axis=0),
        errors=None if final is None else _squared_errors(final, stages["images"]),
        seconds_per_image=None if None in spent else sum(spent),
    )


def _squared_errors(final: Stage, clean: Stage, batch: int = 64) -> np.ndarray:
    """Mean squared error of every image (n,), on [0, 1]."""
    errors = []
    for start in range(0, clean.count, batch):
        a, b = (s.read("images", start, start + batch) for s in (final, clean))
        errors.append(((a - b) ** 2).mean(axis=(1, 2, 3), dtype=np.float64))
    return np.concatenate(errors)


def measurer(
    roles: Roles, results: Path
) -> tuple[Callable[[str], Stage], Callable[[Chain], Measures]]:
    """What opens a store below the results, and what measures a chain: each once."""
    opened = cache(lambda folder: open_stage(results / folder))
    return opened, cache(lambda chain: measure(chain, shards_of(chain, roles), opened))


def build_table(
    table: Table, roles: Roles, results: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the CSV, and all measures in long form."""
    rows: list[dict[str, Any]] = []
    measures: list[dict[str, Any]] = []
    opened, measured = measurer(roles, results)  # rows share stores
    for row in table.rows:
        rows.append(out := _described(table, row, roles))
        if row.quoted is not None or unavailable(table, row, roles) is not None:
            continue
        clean, attacked = chains(table, row, roles)
        _fill(out, table, row, roles, measured(clean), [measured(c) for c in attacked])
        if table.costs:
            shard = shards_of(clean, roles)[0]
            out.update(_costs(table, row, roles, opened(clean.folder("images", shard))))
        for chain in (clean, *attacked):
            measures += _long(row, chain, measured(chain))
    return rows, measures


def outcomes(
    table: Table, row: Row, roles: Roles, clean: Measures, attacked: list[Measures]
) -> dict[str, np.ndarray]:
    """How right a row is about each image, (n,) in [0, 1]: `standard` and `robust`."""
    how = evaluation(table, row, roles)
    # What an attack says of its own success, it says of attacked images only; and without a
    # random purifier, all rules but its own are the first.
    rule = how.clean or ("average" if how.rule in ("attack", "others") else how.rule)
    standard = clean.right.get(rule, clean.right["first"])
    each = [m.right.get(how.rule, m.right["first"]) for m in attacked]
    if len(each) == 1 or how.minimum == "attack":
        robust = min(each, key=np.mean)
    else:  # what is wrong without any attack is not robust
        robust = np.min([standard, *each], axis=0)
    return {"standard": standard, "robust": robust}


def _fill(
    out: dict[str, Any],
    table: Table,
    row: Row,
    roles: Roles,
    clean: Measures,
    attacked: list[Measures],
) -> None:
    """Put a row's accuracies, count and time into it."""
    for column, right in outcomes(table, row, roles, clean, attacked).items():
        names = (column, f"{column}_low", f"{column}_high")
        out.update({k: round(v, 2) for k, v in zip(names, accuracy(right), strict=True)})
        out["n"] = len(right)
    if (seconds := attacked[0].seconds_per_image) is not None:
        out["seconds_per_image"] = float(f"{seconds:.4g}")


def _costs(table: Table, row: Row, roles: Roles, images: Stage) -> dict[str, float]:
    """MACs and parameters of a row's restorer for one of its images; nothing without a network."""
    name = table.role(row, "restorer")
    spec = {} if name == NONE else roles[f"restorer {name}"]["spec"]
    if "weights" not in spec:
        return {}
    from puriflow.metrics.cost import cost_of_restorer  # imports torch

    cost = cost_of_restorer(name, spec, images.read("images", 0, 1).shape[-1])
    return {"macs_g": round(cost.macs / 1e9, 2), "params_m": round(cost.parameters / 1e6, 3)}


def _described(table: Table, row: Row, roles: Roles) -> dict[str, Any]:
    """A row without our numbers: its names, the paper's numbers, and the notes."""
    out: dict[str, Any] = dict.fromkeys(COLUMNS)
    out.update(method=row.method, type=row.type)
    out.update({f"paper_{key}": value for key, value in row.paper.model_dump().items()})
    notes = [row.note]
    if row.quoted is not None:
        notes.insert(0, f"quoted by the paper from {row.quoted}; not run here")
    else:
        for kind in ROLES:
            out[kind] = _served(kind, table.role(row, kind), roles)
        threats = table.role(row, "attack")
        out["attack"] = " and ".join(_attack_name(threat, roles) for threat in threats)
        out["evaluation"] = table.role(row, "evaluation")
        if (reason := unavailable(table, row, roles)) is not None:
            notes.insert(0, reason)
        else:
            notes += [roles[f"{kind} {name}"]["note"] for kind, name in named(table, row)]
    out["note"] = "; ".join(filter(None, dict.fromkeys(notes)))
    return out


def _served(kind: str, name: str, roles: Roles) -> str:
    return NONE if name == NONE else roles[f"{kind} {name}"]["served_by"]


def _attack_name(threat: Threat, roles: Roles) -> str:
    name = _served("attack", threat.attack, roles)
    if threat.surrogate is not None:
        return f"{name} on the defence with {_served('purifier', threat.surrogate, roles)}"
    return f"{name} on the defence" if threat.victim == "defence" else name


def _long(row: Row, chain: Chain, found: Measures) -> list[dict[str, Any]]:
    """All that was measured of a chain: a row for each rule."""
    rows = []
    for rule, right in found.right.items():
        share, low, high = accuracy(right)
        rows.append(
            {
                "method": row.method,
                "images": "clean" if chain.attack == NONE else "attacked",
                **{name: getattr(chain, name) for name in ROLES},
                "attack": chain.attack,
                "victim": chain.victim,
                "draws": chain.draws,
                "rule": rule,
                "n": len(right),
                "correct": float(f"{right.sum():.6g}"),
                "accuracy": round(share, 2),
                "accuracy_low": round(low, 2),
                "accuracy_high": round(high, 2),
                "cross_entropy": round(found.cross_entropy, 4),
                "mse": None if found.mse is None else float(f"{found.mse:.4g}"),
                "seconds_per_image": found.seconds_per_image,
            }
        )
    return rows


def write_table(table: Table, roles: Roles, results: Path, out: Path, long: Path) -> None:
    """Write a table's CSV, and the long form of everything measured."""
    import pandas as pd

    rows, measures = build_table(table, roles, results)
    columns = [*COLUMNS[:-1], *(COSTS if table.costs else ()), COLUMNS[-1]]
    frame = pd.DataFrame(rows, columns=columns).astype({"n": "Int64", "paper_n": "Int64"})
    frame.to_csv(out, index=False)
    pd.DataFrame(measures).to_csv(long, index=False)
