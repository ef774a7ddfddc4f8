"""Tables of the paper: rows are chains of roles with the paper's own numbers beside them.

config/tables/NAME.yaml says which chains a table compares, how they are attacked and how judged. A
row that the track cannot serve says why, and has no numbers; a row that the paper only quotes has
the paper's numbers and their source.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.errors import UserError, unknown
from puriflow.metrics.accuracy import accuracy
from puriflow.registry import Part
from puriflow.results import audited, ceiling, shown
from puriflow.results.base import (
    EVIDENCE,
    Device,
    Files,
    Judged,
    Lines,
    failures,
    joined,
    notes,
    say_failures,
    served_by,
    shards_of,
)
from puriflow.results.columns import bounded, column, frame, read_csv, stacked, write_csv
from puriflow.results.costs import COSTS, cost_of_purifier, cost_of_restorer
from puriflow.results.documents import Block, Grid, fixed, interval, text
from puriflow.results.measures import (
    METRICS,
    UNDER_ATTACK,
    Stores,
    check_verdict,
    outcomes,
    why_failed,
)
from puriflow.results.rows import Row, Threats, by_attack, few_draws

if TYPE_CHECKING:
    import pandas as pd

ROLES = ("dataset", "restorer", "purifier", "classifier")  # of a row, beside its attacks
ACCURACIES = ("standard", "robust")
PAPERS = re.compile(r"table\w+(-left|-right)?")  # names of the paper's tables
COLUMNS = (
    *("method", "type", "dataset", "classifier", "attack", "evaluation", "restorer", "purifier"),
    *("n", "standard", "standard_low", "standard_high", "robust", "robust_low", "robust_high"),
    *("paper_standard", "paper_robust", "paper_n", "paper_source", "seconds_per_image"),
    *ceiling.COLUMNS,
    *audited.COLUMNS,
    *("by_attack", "attack_failed", "note"),
)
# Of all that was measured: a chain and a rule a row.
MEASURES = (
    *("method", "images", *ROLES, "attack", "victim", "n_draws", "rule", "n", "correct"),
    *("accuracy", "accuracy_low", "accuracy_high", *METRICS, "seconds_per_image", "attack_failed"),
)


class Table(Judged):
    """A table: the roles that its rows share, and the rows."""

    folder: ClassVar[str] = "tables"

    dataset: str
    classifier: str
    attack: Threats
    restorer: str = NONE
    purifier: str = NONE
    evaluation: str = "single"
    costs: bool = Field(False, description="also count the restorers' MACs and parameters")
    picture: Literal["bars", "cost"] = Field("bars", description="`cost`: robust against seconds")
    audit: int | None = Field(None, ge=2, le=10_000, description="images of each row's audit")
    asked: bool = Field(False, description="built when asked for, and not with all others")
    rows: tuple[Row, ...] = Field(min_length=1)

    @classmethod
    def of_paper(cls, name: str) -> bool:
        """The paper's tables are called `table` and their number; our own have other names."""
        return PAPERS.fullmatch(name) is not None

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        numbers = {"csv": f"{name}.csv", "measures": f"measures/{name}.csv"}
        return {**numbers, "png": f"{name}.png", "sheet": f"sheets/{name}.png"}

    def items(self) -> tuple[Row, ...]:
        """The rows that are computed, and not quoted."""
        return tuple(row for row in self.rows if row.quoted is None)

    def role(self, row: Row, name: str) -> Any:
        """The role of a row (or its attacks, or its evaluation), or else the table's."""
        own = getattr(row, name)
        return getattr(self, name) if own is None else own

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        for role in ROLES:
            if (name := self.role(row, role)) != NONE:
                yield role, name
        for threat in self.role(row, "attack"):
            yield "attack", threat.attack
            if threat.surrogate is not None:
                yield "purifier", threat.surrogate

    def reads(self, track: Config, row: Row) -> Iterator[str]:
        """All stages of the chains of clean and of attacked images."""
        clean, attacked = self.chains(track, row)
        for chain in (clean, *attacked):
            for shard in shards_of(track, chain.dataset):
                yield from (chain.folder(stage, shard) for stage in chain.stages())

    def files(self, track: Config) -> list[str]:
        """See `Result`: its rows' audits."""
        if self.audit is None:
            return []
        return list(dict.fromkeys(self.audit_of(track, row) for row in self.served(track)))

    def audit_of(self, track: Config, row: Row) -> str:
        """The file of a row's audit, below the results."""
        assert self.audit is not None
        threats, (_, attacked) = self.role(row, "attack"), self.chains(track, row)
        return audited.file_of(attacked[audited.knowing(track, threats)], self.audit)

    def trigger(self, track: Config) -> dict[str, Any]:
        """See `Result`; and how its rows are judged."""
        evaluations = dict.fromkeys(self.role(row, "evaluation") for row in self.items())
        entries = {name: track.evaluation(name).model_dump() for name in evaluations}
        return super().trigger(track) | {"evaluations": entries}

    def parts_of(self, row: Row) -> list[tuple[str, str]]:
        """The restorer, whose costs are counted."""
        name = self.role(row, "restorer")
        return [("restorer", name)] if self.costs and name != NONE else []

    def parts(self, track: Config) -> list[Part]:
        """Restorers with a network; it is counted without its weights."""
        counted = (part for part in super().parts(track) if part.weights is not None)
        return [replace(part, weights=None) for part in counted]

    def chains(self, track: Config, row: Row) -> tuple[Chain, list[Chain]]:
        """The chain of clean images, and that of each attack."""
        evaluation = track.evaluation(self.role(row, "evaluation"))
        names = {role: self.role(row, role) for role in ROLES}
        random = names["purifier"] != NONE
        clean = Chain(**names, n_draws=evaluation.n_draws if random else 1)
        attacked = []
        for threat in self.role(row, "attack"):
            chain = replace(clean, attack=threat.attack, victim=threat.victim_of(clean))
            check_verdict(track, f"table row {row.method!r}", evaluation, chain)
            attacked.append(chain)
        return clean, attacked

    def outcomes(self, track: Config, row: Row, stores: Stores) -> dict[str, np.ndarray]:
        """How right a row is about each image, (n,) in [0, 1]: `standard` and `robust`."""
        clean, attacked = self.chains(track, row)
        evaluation = track.evaluation(self.role(row, "evaluation"))
        return outcomes(evaluation, stores.measure(clean), [stores.measure(c) for c in attacked])

    def failed(self, track: Config, row: Row, stores: Stores) -> dict[Chain, str]:
        """How each attack on a row failed, by its chain; without those that did not."""
        clean, attacked = self.chains(track, row)
        rule = track.evaluation(self.role(row, "evaluation")).rule
        reasons = {c: why_failed(rule, stores.measure(clean), stores.measure(c)) for c in attacked}
        return {chain: reason for chain, reason in reasons.items() if reason is not None}

    # Its files

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        stores, served = Stores(track, results), self.served(track)
        rows = [self.cells(track, row, stores) for row in self.rows]
        measures = [line for row in served for line in self.measured(track, row, stores)]
        table = write_csv(rows, self.columns(), files["csv"])
        say_failures(rows, "method")
        write_csv(measures, MEASURES, files["measures"])
        names = [{role: self.role(row, role) for role in (*ROLES, "attack")} for row in self.rows]
        chains = [self.chains(track, row) if row in served else None for row in self.rows]
        drawn = list(map(shown.Shown, self.rows, names, chains))
        shown.draw(self.picture, self.heading(track), table, drawn, stores, files)

    def columns(self) -> tuple[str, ...]:
        costs = (*COSTS, *(f"paper_{name}" for name in COSTS)) if self.costs else ()
        costs += ("evaluations",) if self.picture == "cost" else ()
        return (*COLUMNS[:-3], *costs, *COLUMNS[-3:])

    def cells(self, track: Config, row: Row, stores: Stores) -> dict[str, Any]:
        """A row of the CSV."""
        paper = {f"paper_{key}": value for key, value in row.paper.model_dump().items()}
        cells = {"method": row.method, "type": row.type, **paper}
        if row.quoted is not None:
            quoted = f"quoted by the paper from {row.quoted}; not run here"
            return cells | {"note": joined(quoted, row.note)}
        cells |= {role: served_by(track, role, self.role(row, role)) for role in ROLES}
        threats = self.role(row, "attack")
        cells["attack"] = " and ".join(threat.served_by(track) for threat in threats)
        cells["evaluation"] = self.role(row, "evaluation")
        if (reason := self.unavailable(track, row)) is not None:
            return cells | {"note": joined(reason, row.note)}
        few = few_draws(track, threats, self.role(row, "purifier"))
        cells["note"] = joined(row.note, *notes(track, self.roles(row)), *few)
        cells |= self.numbers(track, row, stores)
        if self.audit is not None:
            cells |= audited.cells(stores.results / self.audit_of(track, row), cells["note"])
        return cells

    def numbers(self, track: Config, row: Row, stores: Stores) -> dict[str, Any]:
        """A row's accuracies with their 95 % Wilson intervals, its time, and its costs."""
        numbers: dict[str, Any] = {}
        for name, right in self.outcomes(track, row, stores).items():
            numbers |= bounded(name, (round(x, 2) for x in accuracy(right))) | {"n": len(right)}
        clean, attacked = self.chains(track, row)
        if (seconds := stores.measure(attacked[0]).seconds_per_image) is not None:
            numbers["seconds_per_image"] = float(f"{seconds:.4g}")
        failed = self.failed(track, row, stores).items()
        numbers["attack_failed"] = "; ".join(f"{c.attack}: {why}" for c, why in failed) or None
        side = stores.shards(clean, "images")[0].manifest["arrays"]["images"]["shape"][-1]
        if self.costs:
            numbers |= cost_of_restorer(track, self.role(row, "restorer"), side)
        if self.picture == "cost":
            numbers |= cost_of_purifier(track, self.role(row, "purifier"), side)
        return numbers | self.beside(track, row, stores)

    def beside(self, track: Config, row: Row, stores: Stores) -> dict[str, Any]:
        """What stands beside a row's robust accuracy: that under each attack, and the ceiling."""
        threats, (_, attacked) = self.role(row, "attack"), self.chains(track, row)
        rule = track.evaluation(self.role(row, "evaluation")).rule
        right = [stores.measure(chain).by(rule) for chain in attacked]
        cells: dict[str, Any] = {"by_attack": by_attack(track, threats, right)}
        if self.role(row, "purifier") == NONE:
            return cells
        dataset = self.role(row, "dataset")
        trained = {
            other.method: self.outcomes(track, other, stores)["robust"]
            for other in self.served(track)
            if (other.type, self.role(other, "dataset")) == (ceiling.TRAINED, dataset)
        }
        return cells | ceiling.to_ceiling(self.outcomes(track, row, stores)["robust"], trained)

    def measured(self, track: Config, row: Row, stores: Stores) -> Iterator[dict[str, Any]]:
        """All that was measured of a row's chains: a line for each of them and each rule."""
        clean, attacked = self.chains(track, row)
        failed = self.failed(track, row, stores)
        for chain in (clean, *attacked):
            measures = stores.measure(chain)
            for rule, right in measures.right.items():
                yield {
                    "method": row.method,
                    "images": "clean" if chain.attack == NONE else "attacked",
                    **{role: getattr(chain, role) for role in (*ROLES, "attack", "victim")},
                    "n_draws": chain.n_draws,
                    "rule": rule,
                    "n": len(right),
                    "correct": float(f"{right.sum():.6g}"),
                    **bounded("accuracy", (round(x, 2) for x in accuracy(right))),
                    **measures.means(),
                    "seconds_per_image": measures.seconds_per_image,
                    "attack_failed": failed.get(chain),
                }

    # What claims and pages ask

    def lines_of_claims(self) -> list[str]:
        """See `Judged`: the methods of its rows."""
        return [row.method for row in self.rows]

    def row(self, name: str, method: str) -> Row:
        """The row of a method, in the table of a name."""
        rows = [row for row in self.rows if row.method == method]
        if not rows:
            raise unknown(f"method of {name}", method, {row.method for row in self.rows})
        if len(rows) > 1:
            raise UserError(f"{name} has {len(rows)} rows of {method!r}: a claim needs one")
        return rows[0]

    def evidence(self, track: Config, name: str, results: Path, lines: Lines) -> "pd.DataFrame":
        """See `Judged`; costs, which are the same for all images, have one value.

        Where all attacks on a row failed, its numbers under attack are not measured.
        """
        stores, lines_of = Stores(track, results), []
        costs = read_csv(results / f"{name}.csv", ("method", *COSTS)) if self.costs else None
        for row in (self.row(name, method) for method in lines):
            reason = self.unavailable(track, row)
            if row.quoted is not None:
                reason = f"{row.method} is quoted from {row.quoted}"
            by_metric = {} if reason else self.values(track, row, stores)
            if costs is not None and not reason:
                own = costs[costs["method"] == row.method].iloc[0]
                by_metric |= {cost: {0: own[cost]} for cost in COSTS}
            reasons = dict.fromkeys(("standard", *UNDER_ATTACK, *COSTS), reason)
            if reason is None:
                reasons |= dict.fromkeys(UNDER_ATTACK, self.void(track, row, stores))
            for metric, why in reasons.items():
                line = {"line": row.method, "metric": metric, "note": why}
                line["paper"] = getattr(row.paper, metric, None)
                of_images = {None: None} if why else by_metric.get(metric, {})
                values = (line | {"index": i, "value": value} for i, value in of_images.items())
                lines_of.append(frame(values, (*EVIDENCE, "paper")))
        return stacked(lines_of, (*EVIDENCE, "paper"))

    def void(self, track: Config, row: Row, stores: Stores) -> str | None:
        """Why a row's numbers under attack say nothing: all of its attacks failed; None if not."""
        failed = self.failed(track, row, stores)
        void = set(failed) == set(self.chains(track, row)[1])
        return f"the attack on {row.method} failed: {'; '.join(failed.values())}" if void else None

    def values(self, track: Config, row: Row, stores: Stores) -> dict[str, dict[int, float]]:
        """A row's value of every image, by metric and data-set index."""
        clean, attacked = self.chains(track, row)
        right = self.outcomes(track, row, stores)
        right["gap"] = right["standard"] - right["robust"]
        measures = [stores.measure(chain).metrics for chain in attacked]
        losses = np.max([metrics["cross_entropy"] for metrics in measures], axis=0)
        indices = stores.read(clean, "images", "index").tolist()
        by_metric = right | {"cross_entropy": losses}
        return {
            metric: dict(zip(indices, values.tolist(), strict=True))
            for metric, values in by_metric.items()
        }

    def page(self, rows: "pd.DataFrame") -> list[Block]:
        """See `Judged`: accuracies and costs beside the paper's."""
        costs = COSTS if self.costs else ()
        heads = [head for name in (*ACCURACIES, *costs) for head in (column(name).words, "paper")]
        lines = []
        for row in rows.to_dict("records"):
            line = [text(row["method"]), text(row["type"]), fixed(row["n"], 0)]
            for name in ACCURACIES:
                line.append(interval(row[name], row[f"{name}_low"], row[f"{name}_high"]))
                line.append(fixed(row[f"paper_{name}"]))
            for name in costs:
                line += [fixed(row[name]), fixed(row[f"paper_{name}"], 1)]
            failed = text(row["attack_failed"])
            note = joined(failed and f"an attack failed: {failed}", text(row["note"]))
            lines.append((*line, note))
        grid = Grid(("method", "type", "n", *heads, "note"), tuple(lines))
        return [*failures(rows, "method"), grid]
