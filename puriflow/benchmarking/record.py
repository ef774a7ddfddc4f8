"""What a benchmark found, as JSON with a published schema, as a data frame and as LaTeX.

One file of it is one line of a leaderboard, in the spirit of RobustBench's `model_info`: whoever
made it, it has the same fields, and says what made it and whether its attack was cut. No torch is
imported here, so that who reads a record needs none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from puriflow.auditing.verdicts import Audit
from puriflow.config import validated
from puriflow.errors import UserError
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.rules import Rule
from puriflow.options import Norm
from puriflow.results.documents import Grid, as_latex
from puriflow.store.manifest import Sha256

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

BEHIND_RESULTS = False
SCHEMA = 1
NONE, ALL = "no attack", "worst of all"  # of the attacks, for each image
CLASSIFIER, DEFENCE, SURROGATE = "the classifier", "the defence", "its surrogate"  # gone through
Share = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[Share, Share]


class Model(BaseModel):
    """A part of a record."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Accuracy(Model):
    """A share of right answers, in [0, 1].

    Attributes:
        share: over images and, by `average`, over draws.
        interval: Wilson's, of 95 %, with an image as a trial.
        spread: the lowest and the highest over the seeds of the defence's noise, draw by draw; of
            `average` alone, and None of a deterministic defence.
    """

    share: Share
    interval: Pair
    spread: Pair | None = None

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.share:.1f} ({100 * low:.1f} to {100 * high:.1f})"


Accuracies = dict[Rule, Accuracy]


class Attacked(Model):
    """What one attack left.

    Attributes:
        name: in the record.
        through: what it attacked: `the defence`, or what it had in its place: `the classifier`
            alone, `its surrogate`, or any other in words.
        options: all of them.
        robust: by each rule.
        passes: of the defence over an image while it was attacked, forwards, in the mean.
        seconds: an image, the judgement included.
    """

    name: str
    through: str
    options: dict[str, Any]
    robust: Accuracies
    passes: float = Field(ge=0)
    seconds: float = Field(ge=0)


class Outcome(Model):
    """One image: its class, how right the defence was about it, and which attack was the worst."""

    label: int = Field(ge=0)
    standard: dict[Rule, Share]
    robust: dict[Rule, Share]
    attack: str


class Defended(Model):
    """What was judged.

    Attributes:
        name: of its parts or its class; who publishes a record may give it another.
        random: whether it answers the same image in different ways.
        parameters: how many it has; None where it was not built for this record.
        network_evaluations: of the purifier's diffusion network, for one pass; None if there is
            none that is known.
        sha256: of its tensors, its plain attributes and its code; or of its entries, weights and
            code.
    """

    name: str
    random: bool
    parameters: int | None = Field(ge=0)
    network_evaluations: int | None = Field(ge=0)
    sha256: Sha256


class MadeBy(Model):
    """What made a record: versions, code, inputs and the machine."""

    puriflow: str
    code: Sha256
    versions: dict[str, str]
    images: Sha256
    labels: Sha256
    machine: dict[str, str | int]


class Benchmark(Model):
    """What `puriflow.benchmark` returns; printed it is a table.

    Attributes:
        title: where it stands, as a table and its row; whoever publishes it may name it.
        defence: what was judged.
        attack: the preset, or the names of the attacks that were given.
        cut: what makes its attacks weaker than the published ones on all of the defence, so that
            nobody takes its numbers for those; empty if nothing does.
        norm, eps: the threat model; eps on [0, 1].
        n: how many images.
        n_draws: fresh answers to each image; 1 of a deterministic defence.
        seed: of all draws.
        standard: accuracy without attack, by rule: of a deterministic defence by `average` alone,
            since all say the same; of `in-loop-*` by as many answers as the attack's loop
            had, so that chance is in both.
        robust: of the worst attack for each image.
        audit: the checks of `puriflow.audit` of the first attack, as JSON; or why there are none.
        x_adv: by attack, the adversarial images (n, 3, H, W) that were judged. They are not in
            the JSON; with `out` they are in its stores.
    """

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    title: str = ""
    defence: Defended
    attack: str
    cut: str
    norm: Norm
    eps: float = Field(gt=0)
    n: int = Field(ge=1)
    n_draws: int = Field(ge=1)
    seed: int = Field(ge=0)
    standard: Accuracies
    robust: Accuracies
    attacks: list[Attacked] = Field(min_length=1)
    images: list[Outcome]
    audit: dict[str, Any] | str
    made_by: MadeBy  # see there
    _x_adv: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def x_adv(self) -> "Mapping[str, Tensor]":
        """See the attributes."""
        return self._x_adv

    def hold(self, x_adv: "Mapping[str, Tensor]") -> None:
        """Keep adversarial images with the record; see `x_adv`."""
        self._x_adv.update(x_adv)

    @property
    def seconds(self) -> float:
        """What an image took, over all attacks."""
        return sum(attack.seconds for attack in self.attacks)

    def to_json(self) -> str:
        """All of it but the images."""
        return json.dumps(self.model_dump(by_alias=True), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | Path, *, where: str = "benchmark") -> Self:
        """A record from what `to_json` made of it.

        Raises:
            UserError: it is something else, or its numbers do not fit each other.
        """
        try:
            raw = json.loads(text.read_bytes() if isinstance(text, Path) else text)
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON: {error}") from None
        record = validated(cls, raw, where)
        record.check(where)
        return record

    def check(self, where: str) -> None:
        """Refuse a record whose numbers do not fit each other.

        Raises:
            UserError: the first that does not.
        """
        if len(self.images) != self.n:
            raise UserError(f"{where}: n is {self.n}, but there are {len(self.images)} images")
        if self.attack == "quick" and not self.cut:
            raise UserError(f"{where}: the preset quick is cut, and `cut` must say so")
        names = {attack.name for attack in self.attacks}
        if others := {image.attack for image in self.images} - names:
            raise UserError(f"{where}: images name an attack {others.pop()!r} that there is not")
        if not self.robust or set(self.standard) != set(self.robust):
            raise UserError(f"{where}: standard and robust must have the same rules, one or more")
        for what in ("standard", "robust"):
            said: Accuracies = getattr(self, what)
            for rule, accuracy in said.items():
                rows = [getattr(image, what).get(rule, -1.0) for image in self.images]
                hits = sum(rows)
                near = np.allclose(accuracy.interval, wilson(hits, self.n), atol=1e-6)
                if min(rows) < 0 or abs(hits / self.n - accuracy.share) > 1e-6 or not near:
                    raise UserError(f"{where}: {what}.{rule} is not that of its images")
        for attack in self.attacks:
            for rule, accuracy in attack.robust.items():
                if accuracy.share < self.robust.get(rule, accuracy).share - 1e-6:
                    raise UserError(f"{where}: {attack.name} leaves less than the worst of all")
        if not isinstance(self.audit, str):
            try:
                Audit.from_json(json.dumps(self.audit))
            except UserError as error:
                raise UserError(f"{where}: audit: {error}") from None

    def by_attack(self) -> list[tuple[str, Accuracies]]:
        """What the worst of all attacks left, and each of several."""
        each = [(attack.name, attack.robust) for attack in self.attacks]
        return each if len(each) == 1 else [(ALL, self.robust), *each]

    def rows(self) -> Iterator[dict[str, Any]]:
        """By attack and rule: accuracies in percent."""
        for name, robust in self.by_attack():
            for rule, right in robust.items():
                row = {"attack": name, "rule": rule}
                for what, accuracy in (("standard", self.standard[rule]), ("robust", right)):
                    low, high = accuracy.interval
                    row |= {what: 100 * accuracy.share, f"{what}_low": 100 * low}
                    row |= {f"{what}_high": 100 * high}
                    if accuracy.spread is not None:
                        least, most = accuracy.spread
                        row |= {f"{what}_least": 100 * least, f"{what}_most": 100 * most}
                yield row

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a data frame; `_low` and `_high` are intervals, `_least`, `_most` spreads."""
        import pandas as pd

        said = {"n": self.n, "n_draws": self.n_draws, "cut": self.cut}
        return pd.DataFrame([{**row, **said} for row in self.rows()])

    def grid(self) -> Grid:
        """Accuracies in percent, with their intervals: a row for each attack, a column a rule."""
        rules = tuple(self.robust)
        named = [(NONE, self.standard), *((a.name, a.robust) for a in self.attacks)]
        named += [(ALL, self.robust)] if len(self.attacks) > 1 else []
        rows = [
            (name, *(str(one[rule]) if rule in one else "" for rule in rules))
            for name, one in named
        ]
        return Grid(("attack", *rules), tuple(rows))

    def to_latex(self) -> str:
        """The grid as a table with booktabs, and below it what was done, and whether it is cut."""
        return as_latex(self.grid(), note=self.head())

    def head(self) -> str:
        """What was done, in a line."""
        draws = f"{self.n_draws} answers each" if self.defence.random else "deterministic"
        done = f"{self.defence.name}: {self.attack}, {self.norm} {eps_text(self.eps)}, "
        cut = f"; CUT: {self.cut}" if self.cut else ""
        return f"{done}{self.n} images, {draws}, seed {self.seed}{cut}"

    def __str__(self) -> str:
        grid = self.grid()
        cells = [grid.columns, *grid.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in cells]
        return "\n".join([self.head(), "", *map(str.rstrip, lines), "", self.said_of_audit()])

    def said_of_audit(self) -> str:
        """The audit in a line."""
        passes = sum(attack.passes for attack in self.attacks)
        cost = f"{self.seconds:.3g} s and {passes:.0f} passes an image"
        if isinstance(self.audit, str):
            return f"{cost}; no audit: {self.audit}"
        failed = [c["name"] for c in self.audit["checks"] if c["verdict"] == "failed"]
        said = f"{len(failed)} of {len(self.audit['checks'])} checks failed"
        return f"{cost}; audit: {said}" + (f" ({', '.join(failed)})" if failed else "")


def digest_of(array: np.ndarray) -> str:
    """sha256 of an array: its type, shape and values."""
    head = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def eps_text(eps: float) -> str:
    """A radius as the field writes it: in 255ths where it is a whole number of them."""
    levels = eps * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:g}"


def schema() -> str:
    """The JSON schema of a record: workflow/schemas/benchmark.schema.json."""
    return json.dumps(Benchmark.model_json_schema(by_alias=True), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
