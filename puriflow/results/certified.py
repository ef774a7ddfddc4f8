"""Certified accuracy against radius: rows are smoothed chains, config/certified/NAME.yaml.

The curves are built from the stores of `certify`. A row that the track cannot serve says why, and
has no numbers.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from puriflow.config import NONE, Config
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.certified import ABSTAIN, certified_hits
from puriflow.options import Sigma
from puriflow.results.base import Device, Files, Model, Result, joined, notes, served_by, shards_of
from puriflow.results.columns import write_csv
from puriflow.results.measures import Stores
from puriflow.store import Stage

ROLES = ("dataset", "restorer", "denoiser", "purifier", "classifier")  # as in a store's path
COLUMNS = (
    *("method", *ROLES, "sigma", "n0", "draws", "alpha", "n"),  # draws are Cohen et al.'s n
    *("radius", "certified_accuracy", "low", "high", "standard", "abstained", "note"),
)


class Row(Model):
    """One smoothed chain: its noise, and its roles where they differ from the file's."""

    method: str
    sigma: Sigma = Field(description="standard deviation of the noise, on [0, 1]")
    dataset: str | None = None
    restorer: str | None = None
    denoiser: str | None = None
    purifier: str | None = None
    classifier: str | None = None
    note: str = ""


class Curves(Result):
    """A file of curves: the roles that its rows share, the radii, and the rows."""

    folder: ClassVar[str] = "certified"

    dataset: str
    classifier: str
    restorer: str = NONE
    denoiser: str = NONE
    purifier: str = NONE
    radii: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {form: f"certified/{name}.{form}" for form in ("csv", "png")}

    def items(self) -> tuple[Row, ...]:
        return self.rows

    def chain(self, row: Row) -> dict[str, str]:
        """The name of each role in a row."""
        return {role: getattr(row, role) or getattr(self, role) for role in ROLES}

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        return ((role, name) for role, name in self.chain(row).items() if name != NONE)

    def reads(self, track: Config, row: Row) -> list[str]:
        """The stores of `certify`: stage, roles, sigma, shard."""
        chain = self.chain(row)
        sigma = repr(row.sigma).removesuffix(".0")  # with all its digits
        folder = PurePosixPath("certify", *chain.values(), sigma)
        return [str(folder / shard) for shard in shards_of(track, chain["dataset"])]

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        from puriflow.plots import curves
        from puriflow.plots.style import save, styled

        read = Stores(track, results)
        lines = (line for row in self.rows for line in self.lines(track, row, read))
        frame = write_csv(lines, COLUMNS, files["csv"])
        with styled(text=10):
            save(curves.draw(frame, f"{self.title}\n{self.source}"), [files["png"]])

    def lines(self, track: Config, row: Row, read: Stores) -> Iterator[dict[str, Any]]:
        """The lines of a row in the CSV: one for each radius; shares of images in percent."""
        names = {role: served_by(track, role, name) for role, name in self.chain(row).items()}
        reason = self.unavailable(track, row)
        note = joined(reason, row.note, *notes(track, self.roles(row)))
        line = {"method": row.method, **names, "sigma": row.sigma, "note": note}
        if reason is not None:
            yield line
            return
        stores = read.together(tuple(self.reads(track, row)))
        labels, predictions = _read(stores, "label"), _read(stores, "prediction")
        parameters, n = stores[0].manifest["parameters"], len(labels)
        line |= {
            **{"n0": parameters["n0"], "draws": parameters["n"], "alpha": parameters["alpha"]},
            "n": n,
            "standard": _percent(int((_read(stores, "answer") == labels).sum()) / n),
            "abstained": _percent(int((predictions == ABSTAIN).sum()) / n),
        }
        certified = certified_hits(predictions, _read(stores, "radius"), labels, self.radii)
        for radius, hits in zip(self.radii, certified, strict=True):
            low, high = map(_percent, wilson(hits, n))
            bounded = {"certified_accuracy": _percent(hits / n), "low": low, "high": high}
            yield {**line, "radius": radius, **bounded}


def _read(stores: list[Stage], array: str) -> np.ndarray:
    """An array of all shards."""
    return np.concatenate([store.read(array) for store in stores])


def _percent(share: float) -> float:
    return round(100 * share, 2)
