"""How many draws of a gradient an attack on a random defence needs: config/eot/NAME.yaml.

Rows are chains. Of each, the exact gradient of the cross-entropy is drawn many times, at the clean
images and at those that the file's attack makes of them, since an attack begins at the first and
ends at the second. How much the means of so many draws agree (puriflow.metrics.eot) says how many
are enough, and the attack is run with several numbers of them, to see what it gains.

All of it is computed in the result's own job (puriflow.results.drawn).
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from puriflow.chain import Chain
from puriflow.config import NONE, Config
from puriflow.errors import UserError
from puriflow.metrics.accuracy import accuracy, judged
from puriflow.metrics.eot import Needed, continued, curve, needed
from puriflow.provenance import code_hash
from puriflow.results.base import Device, Files, Model, Result, joined, notes, served_by, shards_of
from puriflow.results.columns import write_csv
from puriflow.results.measures import Stores
from puriflow.results.rows import recommended_draws
from puriflow.store.work import Work

if TYPE_CHECKING:
    import numpy as np

    from puriflow.defence import Defence
    from puriflow.registry import Part
    from puriflow.results.drawn import Arrays
    from puriflow.results.figures.sources import Sources

ROLES = ("dataset", "restorer", "purifier", "classifier", "attack")
POINTS = ("clean", "attacked")  # the images at which gradients are drawn
COSINES = (0.5, 0.9)  # that are to be reached; the first one is recommended
EXTRAPOLATED = 4  # times as many draws as were measured, of which the law is asked
RULES = ("average", "majority")
COLUMNS = (
    *("method", *ROLES, "images", "draws", "metric", "value", "low", "high", "n"),
    *("recommended", "note"),
)


def _power_of_two(draws: int) -> int:
    if draws & (draws - 1):
        raise ValueError(f"must be a power of two, as 32, but is {draws}")
    return draws


def _ascending(draws: tuple[int, ...]) -> tuple[int, ...]:
    if list(draws) != sorted(set(draws)):
        raise ValueError(f"must ascend, as 1, 4, 16, but is {', '.join(map(str, draws))}")
    return draws


Draws = Annotated[int, Field(ge=1, le=4096)]


class Row(Model):
    """One chain: restorer and purifier, where they are not the file's."""

    method: str
    restorer: str | None = None
    purifier: str | None = None
    note: str = ""


class EOT(Result):
    """A file: the roles that its rows share, how much is measured, and the rows."""

    folder: ClassVar[str] = "eot"

    dataset: str
    classifier: str
    attack: str = Field(description="on the whole defence, by its exact gradient; has an eot_iter")
    restorer: str = NONE
    purifier: str = NONE
    count: int = Field(ge=2, le=10_000, description="images at most, the first of the data set")
    draws: Annotated[Draws, AfterValidator(_power_of_two)] = Field(
        32, description="of a half: the most whose mean gradient is measured"
    )
    eot_iter: Annotated[tuple[Draws, ...], AfterValidator(_ascending)] = Field(
        (1, 4, 16), description="with which the attack is run, beside its own"
    )
    n_draws: int = Field(10, ge=1, le=10_000, description="fresh answers that judge the attack")
    rows: tuple[Row, ...] = Field(min_length=1)

    @property
    def computes(self) -> bool:
        return True

    @classmethod
    def outputs(cls, name: str) -> dict[str, str]:
        return {form: f"eot/{name}.{form}" for form in ("csv", "png", "svg")}

    def items(self) -> tuple[Row, ...]:
        return self.rows

    def chain(self, row: Row) -> dict[str, str]:
        """The name of each role in a row."""
        own = {role: getattr(row, role, None) for role in ROLES}
        return {role: name or getattr(self, role) for role, name in own.items()}

    def roles(self, row: Row) -> Iterator[tuple[str, str]]:
        return ((role, name) for role, name in self.chain(row).items() if name != NONE)

    def parts_of(self, row: Row) -> Iterator[tuple[str, str]]:
        return ((role, name) for role, name in self.roles(row) if role != "dataset")

    def reads(self, track: Config, row: Row) -> list[str]:
        """The clean images: the data set's first shard."""
        return [Chain(self.dataset).folder("images", shards_of(track, self.dataset)[0])]

    def check(self, track: Config) -> None:
        """See `Result`: the attack averages draws of the exact gradient."""
        if track.why_unavailable("attack", self.attack) is None:
            self.own_draws(track.part("attack", self.attack))

    def own_draws(self, attack: "Part") -> int:
        """The attack's own `eot_iter`.

        Raises:
            UserError: it has none, or its gradient is not the exact one, or not of fresh draws.
        """
        own, gradient = attack.value("eot_iter"), attack.value("gradient")
        if not isinstance(own, int):
            raise UserError(f"attack {attack.name} has no eot_iter in its entry; name another one")
        if gradient != "full":
            raise UserError(
                f"attack {attack.name}: gradient is {gradient}, but draws are counted of `full`"
            )
        if attack.value("fixed"):
            raise UserError(f"attack {attack.name} is `fixed`: its draws are all the same one")
        return own

    def numbers(self, attack: "Part") -> list[int]:
        """With how many draws the attack is run: those of the file and its own."""
        return sorted({*self.eot_iter, self.own_draws(attack)})

    def write(self, track: Config, files: Files, results: Path, device: Device) -> None:
        from puriflow.plots import eot
        from puriflow.plots.style import save, styled

        with closing(Work(files["csv"].with_suffix(""), self.made_by(track, results))) as work:
            measured = self.measure(track, results, device, work)
            lines = (line for row in self.rows for line in self.lines(track, row, measured))
            frame = write_csv(lines, COLUMNS, files["csv"])
            with styled(text=8):
                save(eot.draw(frame, COSINES[0], self.title), [files["png"], files["svg"]])
            work.discard()

    def made_by(self, track: Config, results: Path) -> dict[str, Any]:
        """All on which what a killed job has left depends."""
        stores, parts = Stores(track, results), self.parts(track)
        modules = [*self.modules(), *(module for part in parts for module in part.modules())]
        return {
            "file": self.model_dump(mode="json"),
            "track": self.trigger(track),
            "seed": track.seed,
            "images": [stores.open(folder).identity for folder in self.stores(track)],
            "code": code_hash(*modules),
        }

    def measure(
        self, track: Config, results: Path, device: Device, work: Work
    ) -> dict[Row, "Arrays"]:
        """What is measured of every row that is served; see `Measurement`, and its labels."""
        if not (rows := self.served(track)):
            return {}
        from puriflow.results.drawn import Measurement
        from puriflow.results.figures.sources import Sources

        shards = shards_of(track, self.dataset)[:1]
        sources = Sources(track, results, device, self.dataset, shards, self.count)
        if len(sources.clean) < 2:
            raise UserError(f"data set {self.dataset} has 1 image; draws are counted of 2 or more")
        part = track.part("attack", self.attack)
        attacks = {
            draws: replace(part, options={**part.options, "eot_iter": draws}).build()
            for draws in self.numbers(part)
        }
        how = Measurement(attacks, self.own_draws(part), self.draws, self.n_draws)
        chains = [partial(self.victim, sources, row) for row in rows]
        return {
            row: {**arrays, "label": sources.labels}
            for row, arrays in zip(rows, how.of_all(chains, sources, work), strict=True)
        }

    def victim(self, sources: "Sources", row: Row) -> "Defence":
        """The defence of a row, on the device."""
        from puriflow.defence import Defence

        names, seed = self.chain(row), sources.track.seed
        parts = {
            role: None if (name := names[role]) == NONE else sources.part(role, name)
            for role in ("restorer", "purifier", "classifier")
        }
        return Defence(**parts, seed=seed)

    # The lines of its CSV: a number each

    def lines(
        self, track: Config, row: Row, measured: dict[Row, "Arrays"]
    ) -> Iterator[dict[str, Any]]:
        """The lines of a row; one with the reason if it is not served."""
        said: dict[str, Any] = {"method": row.method}
        said |= {role: served_by(track, role, name) for role, name in self.chain(row).items()}
        if (reason := self.unavailable(track, row)) is not None:
            yield said | {"note": joined(reason, row.note)}
            return
        said["note"] = joined(row.note, *notes(track, self.roles(row)))
        arrays = measured[row]
        said["n"] = len(arrays["label"])
        for place, images in enumerate(POINTS):
            for line in self.cosines(track, row, arrays["cosines"][:, place]):
                note = joined(said["note"], line.get("note"))
                yield said | {"images": images} | line | {"note": note}
        for line in self.successes(track, arrays):
            yield said | line

    def cosines(self, track: Config, row: Row, cosines: "np.ndarray") -> Iterator[dict[str, Any]]:
        """The curve at one point, and how many draws it asks for."""
        measured = curve(cosines)
        law = continued(measured, EXTRAPOLATED)
        for metric, points in (("split_half_cosine", measured), ("expected_cosine", law)):
            for draws, numbers in points.items():
                rounded = (round(number, 4) for number in numbers)
                yield {"metric": metric, "draws": draws} | _between(*rounded)
        for cosine in COSINES:
            found = needed({**measured, **law}, cosine)
            yield {
                "metric": f"draws_for_{cosine}",
                **_between(*found),
                "recommended": found.words(EXTRAPOLATED * self.draws),
                "note": joined(*self.too_few(track, row, found, cosine)),
            }

    def too_few(self, track: Config, row: Row, found: Needed, cosine: float) -> Iterator[str]:
        """Who names fewer draws: the attack, and (of what is recommended) the track."""
        named = {f"attack {self.attack} takes": self.own_draws(track.part("attack", self.attack))}
        told = recommended_draws(track, self.chain(row)["purifier"])
        if told is not None and cosine == COSINES[0]:
            named["the track recommends"] = told
        for who, draws in named.items():
            if found.draws is None or draws < found.draws:
                yield f"{who} {draws}, which are fewer"

    def successes(self, track: Config, arrays: "Arrays") -> Iterator[dict[str, Any]]:
        """How often answers are wrong, in percent: without an attack, and by its draws."""
        numbers = self.numbers(track.part("attack", self.attack))
        for place, draws in enumerate((None, *numbers)):
            images = POINTS[draws is not None]
            for rule in RULES:
                right = judged(arrays["answers"][:, place], arrays["label"], rule)
                wrong = (round(share, 2) for share in accuracy(1 - right))
                line = {"images": images, "draws": draws, "metric": f"success_{rule}"}
                yield line | _between(*wrong)


def _between(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    """A number with its interval, as cells of a line."""
    return {"value": value, "low": low, "high": high}
