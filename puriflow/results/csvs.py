"""The CSVs of results, read back."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from puriflow.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# What documents and pictures need of a table's CSV.
TABLE = (
    "method",
    "type",
    "n",
    "standard",
    "standard_low",
    "standard_high",
    "robust",
    "robust_low",
    "robust_high",
    "paper_standard",
    "paper_robust",
    "note",
)
# The columns that hold text, even where all of it looks like numbers; all others hold numbers.
TEXT = {
    *("method", "type", "note"),
    *("part", "served_by", "device", "paper_device"),  # of times
    *("about", "section", "quote", "claim_verdict"),  # of claims
    *("column", "layer", "higher", "lower", "verdict"),
    *("line", "metric"),  # of figures, and of all that was measured for them and for times
}


def read_csv(path: Path, columns: Iterable[str]) -> "pd.DataFrame":
    """A CSV of results, in which only an empty cell is none.

    Args:
        path: of the file.
        columns: that it must have.

    Raises:
        UserError: it is missing, or is no CSV with these columns.
    """
    import pandas as pd

    kinds = {column: str if column in TEXT else float for column in columns}
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=kinds)
    except OSError as error:
        raise UserError(f"results {path}: {error.strerror}; build it first") from None
    except ValueError as error:  # as all that pandas raises about a file's content
        said = " ".join(str(error).split())
        raise UserError(f"results {path}: {said}; build it again") from None
    if missing := [column for column in kinds if column not in frame]:
        raise UserError(f"results {path}: no column {', '.join(missing)}; is it another file?")
    return frame
