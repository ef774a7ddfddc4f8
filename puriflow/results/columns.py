"""The columns of all CSVs, each declared once: name, type, unit, label, and what claims may say.

A result lists the names of its columns in their order; their types in a file, the words on axes and
pages, and the columns that a claim may name follow from here. `paper_NAME` is the paper's number
of a column, and NAME_low, NAME_high, NAME_q1 and NAME_q3 are its bounds: they are of the same type
and unit, and are not declared.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from puriflow.atomic import Replacing
from puriflow.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of a CSV, or a metric that is a value of a column `metric`.

    Attributes:
        name: in the file.
        dtype: str, int or float; object where cells differ.
        unit: of its numbers.
        label: on axes and pages; by default the name.
        claim: how claims about it are judged; None where no claim may speak of it. `share`: of
            images, in percent; `gap`: between two of these; `skewed`: without a bound; `counted`:
            nothing is random in it.
    """

    name: str
    dtype: type = float
    unit: str = ""
    label: str = ""
    claim: Literal["share", "gap", "skewed", "counted"] | None = None

    @property
    def words(self) -> str:
        """What axes and pages call it."""
        return self.label or self.name.replace("_", " ")

    @property
    def axis(self) -> str:
        """Its words with the unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words


def _all(dtype: type, names: str, unit: str = "") -> list[Column]:
    return [Column(name, dtype, unit) for name in names.split()]


def _of_images(name: str, label: str, unit: str = "") -> list[Column]:
    """A metric of sweeps, of clean and of attacked images."""
    kinds = ("clean", "attacked")
    return [Column(f"{name}_{kind}", unit=unit, label=f"{label}, {kind}") for kind in kinds]


DECLARED = (
    # what is compared, by what serves it, and what is said of it
    *_all(str, "method type dataset attack victim restorer denoiser purifier classifier features"),
    *_all(str, "evaluation rule images source part served_by device line layer state definition"),
    *_all(str, "name target metric ceiling by_attack attack_failed note"),
    *_all(str, "check evidence cure"),
    # counts
    *_all(int, "n n_both image index label predicted step n0 draws n_draws repeats wins losses"),
    *_all(int, "n_needed checks_failed"),
    Column("attack_asr", unit="%", label="planted answers that the attack finds"),
    # accuracies and distances
    Column("standard", unit="%", label="standard accuracy", claim="share"),
    Column("robust", unit="%", label="robust accuracy", claim="share"),
    Column("gap", unit="%", label="gap between standard and robust accuracy", claim="gap"),
    Column("to_ceiling", unit="points", label="robust accuracy above the ceiling"),
    Column("correct", object, label="right answers", claim="share"),  # of an image yes or no
    Column("accuracy", unit="%"),
    Column("cross_entropy", unit="nats", label="cross-entropy", claim="skewed"),
    *_of_images("cross_entropy", "cross-entropy", "nats"),
    Column("mse", label="mean squared error", claim="skewed"),
    *_of_images("mse", "mean squared error"),
    Column("bias2", label="squared bias"),
    *_of_images("bias2", "squared bias"),
    Column("variance", label="variance over draws"),
    *_of_images("variance", "variance over draws"),
    Column("content_distance", label="content distance", claim="skewed"),
    *_of_images("content_distance", "content distance"),
    Column("normalised", label="content distance over the reference's"),
    Column("cam_similarity", label="Grad-CAM similarity", claim="skewed"),
    *_all(float, "confidence confidence_in_label t"),
    # how near a map is to an orthonormal projection
    Column("idempotence", label="distance from idempotent", claim="skewed"),
    Column("symmetry", label="|<u, J v> - <v, J u>| / (|u| |J v|)", claim="skewed"),
    Column("asymmetry", label="distance from symmetric", claim="skewed"),
    Column("kept_random", label="share of random directions kept", claim="skewed"),
    Column("reaching", label="energy of the perturbation that is left before it", claim="skewed"),
    Column("kept", label="share of the perturbation kept", claim="skewed"),
    Column("removed", label="share of the perturbation removed", claim="skewed"),
    Column("left", label="energy of the perturbation behind it", claim="skewed"),
    Column("turned", label="change of the projection from the clean image's", claim="skewed"),
    Column("off_tangent", label="distance from the tangent space (Eq. 10)", claim="skewed"),
    # draws of a gradient
    Column("split_half_cosine", label="split-half cosine"),
    Column("expected_cosine", label="split-half cosine, expected"),
    Column("success_average", unit="%", label="success, average"),
    Column("success_majority", unit="%", label="success, majority"),
    Column("recommended", str),
    # certificates
    *_all(float, "sigma alpha radius"),
    Column("certified_accuracy", unit="%"),
    Column("abstained", unit="%"),
    # costs
    Column("seconds", unit="s", claim="skewed"),
    Column("seconds_per_image", unit="s"),
    Column("macs_g", unit="1e9", label="GMACs", claim="counted"),
    Column("params_m", unit="1e6", label="M parameters", claim="counted"),
    Column("evaluations", int, label="network evaluations an image", claim="counted"),
    # sweeps: a number or a name, and the numbers of a metric
    Column("along", object),
    *_all(float, "value low high paper q1 q3"),
    # claims
    *_all(str, "about section quote claim_verdict column higher lower verdict"),
    *_all(float, "paper_higher paper_lower paper_factor ours_higher ours_lower ours_factor"),
    *_all(float, "difference ratio margin p p_within"),
)
_BY_NAME = {column.name: column for column in DECLARED}
# With which a cell begins that a spreadsheet runs (OWASP), maybe behind what is not seen there, or
# in the full width of East Asian letters.
FORMULA = r"(?:[\t\r]|[\s\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
CLAIMED = tuple(column.name for column in DECLARED if column.claim)


def column(name: str) -> Column:
    """The column of a name, or the one whose bound or paper's number it is."""
    base = re.sub(r"^paper_|_(low|high|q1|q3)$", "", name)
    for known in (name, base):
        if known in _BY_NAME:
            return _BY_NAME[known]
    raise unknown("column", name, _BY_NAME)


def bounded(name: str, numbers: Iterable[float]) -> dict[str, float]:
    """The cells of a number with its lower and its upper bound."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))


def frame(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> "pd.DataFrame":
    """Rows with the types of their columns.

    Args:
        rows: cells by column; those that are left out are empty.
        names: of the columns, in order.
    """
    import pandas as pd

    types = {int: "Int64", float: float}
    typed = {name: types[t] for name in names if (t := column(name).dtype) in types}
    return pd.DataFrame(list(rows), columns=list(names)).astype(typed)


def stacked(frames: Iterable["pd.DataFrame"], names: Sequence[str]) -> "pd.DataFrame":
    """Frames of these columns below one another; without rows if none of them has any."""
    import pandas as pd

    filled = [one for one in frames if len(one)]  # the others say nothing of types
    return pd.concat(filled, ignore_index=True) if filled else frame((), names)


def write_csv(
    rows: Iterable[Mapping[str, Any]], names: Sequence[str], out: Path, digits: int | None = None
) -> "pd.DataFrame":
    """Write rows as a CSV, and return them as a frame.

    A text that a spreadsheet would take for a formula has an apostrophe before it in the file.

    Args:
        rows: see `frame`.
        names: see `frame`.
        out: the file.
        digits: of numbers that are not whole; default: all.
    """
    table = frame(rows, names)
    form = None if digits is None else f"%.{digits}g"
    with Replacing(out) as temporary:
        _texts(table, rf"^(?='*{FORMULA})", "'").to_csv(temporary, index=False, float_format=form)
    return table


def _texts(table: "pd.DataFrame", pattern: str, by: str) -> "pd.DataFrame":
    """A table in whose cells of text what matches a pattern is something else."""

    def changed(cell: Any) -> Any:
        return re.sub(pattern, by, cell) if isinstance(cell, str) else cell

    copy = table.copy()
    for name in map(str, table.select_dtypes(exclude="number")):
        copy[name] = table[name].map(changed)
    return copy


def read_csv(path: Path, names: Iterable[str]) -> "pd.DataFrame":
    """A CSV of results, in which only an empty cell is none, and every number is a float.

    Args:
        path: of the file.
        names: of columns that it must have.

    Raises:
        UserError: it is missing, or is no CSV with these columns.
    """
    import pandas as pd

    declared = {name: column(name).dtype for name in names}
    types: Any = {n: str if t is str else float for n, t in declared.items() if t is not object}
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=types)
    except OSError as error:
        raise UserError(f"results {path}: {error.strerror}; build it first") from None
    except ValueError as error:  # as all that pandas raises about a file's content
        reason = " ".join(str(error).split())
        raise UserError(f"results {path}: {reason}; build it again") from None
    if missing := [name for name in declared if name not in table]:
        raise UserError(f"results {path}: no column {', '.join(missing)}; is it another file?")
    return _texts(table, rf"^'(?='*{FORMULA})", "")
