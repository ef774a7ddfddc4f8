"""What the page shows, as data: protocols, and the rows of each.

Rows of the same defence under the same protocol, which several tables share, are one row with all
of their names and claims.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from puriflow.benchmarking.record import Accuracy, Benchmark
from puriflow.metrics.paired import compare
from puriflow.metrics.rules import Rule
from puriflow.site.ours import Entry
from puriflow.site.protocols import (
    NOT_SAID,
    RULES,
    Protocol,
    attack_words,
    gradient_of,
    protocol_of,
)
from puriflow.site.ranking import front, ranks

BEHIND_RESULTS = False
COSTS = ("seconds", "evaluations")  # against which robust accuracy is drawn
BLIND = "the attack does not know what defends the classifier"
UNKNOWN = "nobody says what the attack knows"


def board(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Protocols with their rows, ranked within each: those first whose attacks know most.

    Of these, the largest is first.
    """
    grouped: dict[Protocol, list[Entry]] = {}
    for entry in entries:
        protocol = protocol_of(entry.record, entry.rule)
        grouped.setdefault(protocol, []).append(entry)
    _join_deterministic(grouped)
    named = {p.images: e.dataset for p, group in grouped.items() for e in group if e.dataset}
    found: list[dict[str, Any]] = [
        {**_described(protocol, group, named.get(protocol.images, "")), "rows": _ranked(group)}
        for protocol, group in grouped.items()
    ]
    found.sort(key=lambda one: (-one["knows"], -len(one["rows"]), one["dataset"], one["attack"]))
    rows = [row for protocol in found for row in protocol["rows"]]
    for number, row in enumerate(rows):
        row["id"] = f"row-{number}"
    return found


def _join_deterministic(grouped: dict[Protocol, list[Entry]]) -> None:
    """Put deterministic defences beside the random ones that were asked several times.

    Whatever the number of their answers, all are the same.
    """
    for protocol in [one for one in grouped if one.draws is None]:
        random = [p for p in grouped if p.draws and replace(p, draws=None) == protocol]
        for other in random:
            grouped[other] += grouped[protocol]
        if random:
            del grouped[protocol]


def _described(protocol: Protocol, group: list[Entry], dataset: str) -> dict[str, Any]:
    """A protocol in words; images that no data set here has are called by their hash."""
    record = group[0].record
    draws = f", {protocol.draws} answers" if protocol.draws else ""
    return {
        "dataset": dataset or f"images {protocol.images[:8]}",
        "threat": protocol.threat,
        "gradient": protocol.gradient,
        "attack": " and ".join(attack_words(attack) for attack in record.attacks),
        "rule": f"{protocol.rule}{draws}",
        "rule_words": RULES[protocol.rule],
        "n": protocol.n,
        "images": protocol.images,
        "knows": protocol.knows,
        "blind": "" if protocol.knows else UNKNOWN if NOT_SAID in protocol.gradients else BLIND,
    }


def _ranked(group: list[Entry]) -> list[dict[str, Any]]:
    """The rows of a protocol, by their robust accuracy.

    A row whose attack failed has no rank, and is not on the line of Pareto.
    """
    merged: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in group:
        outcome = tuple(image.robust[entry.rule] for image in entry.record.images)
        merged.setdefault((entry.record.defence.sha256, outcome), []).append(entry)
    rows = [_row(same) for same in merged.values()]
    held = [i for i, row in enumerate(rows) if not row.get("failed_attack")]
    outcomes = [np.array(outcome) for _, outcome in merged]
    for place, rank in zip(held, ranks([outcomes[i] for i in held]), strict=True):
        rows[place]["rank"] = rank
    for cost in COSTS:
        values = [rows[i].get(cost) for i in held]
        for place in front(values, [rows[i]["robust"][0] for i in held]):
            rows[held[place]].setdefault("front", []).append(cost)
    return sorted(rows, key=lambda row: (-row["robust"][0], row["name"]))


def _row(same: list[Entry]) -> dict[str, Any]:
    """One row of the page, of entries that say the same."""
    first = next((entry for entry in same if entry.more), same[0])
    record, rule = first.record, first.rule
    claims = [entry.more["paper"] for entry in same if entry.more]
    return {
        "evaluations": record.defence.network_evaluations,
        "seconds": None,
        **first.more,
        "name": first.name,
        "titles": list(dict.fromkeys(e.record.title for e in same if e.record.title)),
        "ours": bool(first.more),
        "failed_attack": first.more.get("failed_attack") or _helped(record, rule),
        "robust": _percent(record.robust[rule]),
        "standard": _percent(record.standard[rule]),
        "n": record.n,
        "draws": record.n_draws,
        "random": record.defence.random,
        "parameters": record.defence.parameters,
        "claims": [one for one in claims if {one["standard"], one["robust"]} != {None}],
        "cut": record.cut,
        "audit": _audit(record.audit),
        "attacks": [
            {
                "name": attack.name,
                "through": attack.through,
                "gradient": gradient_of(attack),
                "robust": _percent(attack.robust.get(rule)),
                "passes": attack.passes,
                "seconds": attack.seconds,
                "options": attack.options,
            }
            for attack in record.attacks
        ],
        "defence_sha256": record.defence.sha256,
        "made_by": record.made_by.model_dump(),
        "seed": record.seed,
    }


def _helped(record: Benchmark, rule: Rule) -> str:
    """How the attacks of a record failed, that helped the defence beyond chance; empty if not."""
    under, without = (
        np.array([getattr(image, what)[rule] for image in record.images])
        for what in ("robust", "standard")
    )
    if compare(under, without).side != 1:
        return ""
    said = f"{100 * under.mean():.1f} % is right under it, {100 * without.mean():.1f} without"
    return f"{said}, image by image beyond chance"


def _percent(accuracy: Accuracy | None) -> list[float] | None:
    """An accuracy with its interval, in percent."""
    if accuracy is None:
        return None
    return [round(100 * share, 2) for share in (accuracy.share, *accuracy.interval)]


def _audit(audit: dict[str, Any] | str) -> dict[str, Any]:
    """The checks of an audit by their verdicts; or why there is none."""
    if isinstance(audit, str):
        return {"why_none": audit, "failed": None}
    checks = [
        {key: check.get(key, "") for key in ("name", "verdict", "evidence", "cure")}
        for check in audit["checks"]
    ]
    failed = [check["name"] for check in checks if check["verdict"] == "failed"]
    return {"failed": failed, "checks": checks, "attack": audit["attack"], "n": audit["images"]}
