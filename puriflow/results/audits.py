"""Audits: whether the number that an attack leaves a defence is to be believed.

config/audits/NAME.yaml names a chain, an attack on all of it, and how many images. An audit attacks
many times, so it computes in its own job, from the images alone; what its checks are is in
puriflow.auditing. A chain that the track cannot serve has no checks, and a note that says why.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from puriflow.atomic import write_text
from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.results.base import Device, Files, Result, joined, notes, served_by, shards_of
from puriflow.results.columns import write_csv
from puriflow.results.measures import Stores

if TYPE_CHECKING:
    import torch

    from puriflow.auditing.verdicts import Audit

VICTIM = ("restorer", "purifier", "classifier")
ROLES = ("dataset", *VICTIM, "attack")
COLUMNS = (
    *ROLES,
    "n",
    "draws",
    "check",
    "verdict",
    "value",
    "low",
    "high",
    "evidence",
    "cure",
    "note",
)


class AuditResult(Result):
    """A file of an audit, which is its own and only item."""

    folder: ClassVar[str] = "audits"

    dataset: str
    classifier: str
    restorer: str = NONE
    purifier: str = NONE
    attack: str
    count: int = Field(ge=2, le=10_000, description="images at most, the first of the first shard")
    note: str = ""

    @property
    def computes(self) -> bool:
        return True

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {form: f"audits/{name}.{form}" for form in ("json", "csv", "png")}

    def items(self) -> tuple["AuditResult"]:
        return (self,)

    def roles(self, item: "AuditResult") -> Iterator[tuple[str, str]]:
        named = ((role, getattr(item, role)) for role in ROLES)
        return ((role, name) for role, name in named if name != NONE)

    def parts_of(self, item: "AuditResult") -> Iterator[tuple[str, str]]:
        return ((role, name) for role, name in self.roles(item) if role != "dataset")

    def reads(self, track: Config, item: "AuditResult") -> list[str]:
        """The images that are attacked: of the data set's first shard."""
        return [Chain(self.dataset).folder("images", shards_of(track, self.dataset)[0])]

    def trigger(self, track: Config) -> dict[str, Any]:
        """See `Result`; and the seed of the attacks."""
        return super().trigger(track) | {"seed": track.seed}

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        import pandas as pd

        from puriflow.plots import audit as plot
        from puriflow.plots.style import message, save, styled

        reason = self.unavailable(track, self)
        by = {role: served_by(track, role, getattr(self, role)) for role in ROLES}
        said = {"title": self.title, **by}
        said["note"] = joined(reason, self.note, *notes(track, self.roles(self)))
        if reason is not None:
            write_text(files["json"], json.dumps(said, indent=1) + "\n")
            write_csv([said], COLUMNS, files["csv"])
            with styled():
                save(message("not served by this track: see the CSV"), [files["png"]])
            return
        assert device is not None
        audit = self.audit(track, results, device)
        print(audit)
        whole = json.dumps(said | json.loads(audit.to_json()) | {"attack": by["attack"]}, indent=1)
        write_text(files["json"], f"{whole}\n")
        lines = list(lines_of(audit))
        write_csv([{**said, **line} for line in lines], COLUMNS, files["csv"])
        losses, eps, eot = (audit.curves[name] for name in ("loss", "eps", "eot"))
        head = f"{self.title}\n{by['attack']} on {audit.images} images, {audit.draws} draws each"
        with styled():
            save(plot.draw(pd.DataFrame(lines), losses, eps, eot, head), [files["png"]])

    def audit(self, track: Config, results: Path, device: "torch.device") -> "Audit":
        """The audit itself."""
        from puriflow.auditing.audit import of_parts

        (folder,) = self.stores(track)
        store = Stores(track, results).open(folder)
        count = min(store.count, self.count)
        arrays = (store.read(name)[:count] for name in ("label", "index"))
        return of_parts(
            track.parts({role: getattr(self, role) for role in VICTIM}),
            track.part("attack", self.attack),
            store.read("images", 0, count),
            *arrays,
            seed=track.seed,
            device=device,
        )


def lines_of(audit: "Audit") -> Iterator[dict[str, Any]]:
    """The lines of an audit in its CSV: one for each check."""
    for check in audit.checks:
        low, high = check.interval or (None, None)
        line = {"n": audit.images, "draws": audit.draws, "check": check.name}
        line |= {"verdict": check.verdict, "value": check.value, "low": low, "high": high}
        yield {**line, "evidence": check.evidence, "cure": check.cure}
