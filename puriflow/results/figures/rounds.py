"""Figure 6: what rounds of super-resolution do to errors, cross-entropy and accuracies."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from puriflow.chain import Chain
from puriflow.config import NONE
from puriflow.metrics.accuracy import accuracy
from puriflow.metrics.paired import student_interval
from puriflow.results.base import joined, say_failures
from puriflow.results.columns import bounded
from puriflow.results.figures.base import Built, Figure, Line
from puriflow.results.measures import UNDER_ATTACK, why_failed

if TYPE_CHECKING:
    from puriflow.results.figures.sources import Sources

METRICS = ("mse", "cross_entropy", "standard", "robust")


class Rounds(Figure):
    """Errors, cross-entropy and accuracies of restorers; a row for each line.

    Mean squared error and cross-entropy are of attacked images: the error to the clean ones, on
    [0, 1], the cross-entropy in nats, both with Student's 95 % intervals over images. Accuracies
    have 95 % Wilson intervals.
    """

    own_columns: ClassVar[tuple[str, ...]] = (
        "n",
        *(f"{metric}{bound}" for metric in METRICS for bound in ("", "_low", "_high")),
        "attack_failed",
        "note",
    )

    kind: Literal["rounds"] = "rounds"
    count: None = Field(None, description="all images of the data set are measured")

    def both(self, line: Line) -> tuple[Chain, Chain]:
        """A line's chains of clean and of attacked images, to their logits."""
        attacked = replace(self.chain(line), classifier=self.classifier)
        return replace(attacked, attack=NONE, victim=NONE), attacked

    def stages(self, line: Line) -> list[tuple[Chain, str]]:
        """All stages of both chains."""
        return [(chain, stage) for chain in self.both(line) for stage in chain.stages()]

    def compute(self, sources: "Sources") -> Built:
        import pandas as pd

        from puriflow.plots import rounds

        rows, values = [], []
        for line in self.served(sources.track):
            clean, attacked = map(sources.stores.measure, self.both(line))
            means = {metric: attacked.metrics[metric] for metric in ("mse", "cross_entropy")}
            shares = {"standard": clean.right["first"], "robust": attacked.right["first"]}
            row = {**self.described(sources.track, line), "n": len(attacked)}
            row["attack_failed"] = failed = why_failed("first", clean, attacked)
            said = failed and f"the attack on {line.label} failed: {failed}"
            row["note"] = joined(said, str(row["note"]))
            for metric, own in means.items():
                row |= bounded(metric, (own.mean(), *student_interval(own)))
            for metric, own in shares.items():
                row |= bounded(metric, accuracy(own))
            for metric, own in (means | shares).items():
                if failed is not None and metric in UNDER_ATTACK:
                    values.append({"line": line.label, "metric": metric, "note": said})
                else:
                    values += sources.values(line.label, metric, own)
            rows.append(row)
        say_failures(rows, "line")
        return Built(rows, values, rounds.draw(pd.DataFrame(rows)))
