"""Audits of tables: whether the robust accuracies that their attacks leave are to be believed.

A table with `audit` has the quick checks of puriflow.auditing made of each row, on so many images:
of the one of its attacks that knows most of the row's defence, on whatever that attack is on. Rows
that share both share an audit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puriflow.auditing.verdicts import Audit
from puriflow.chain import Chain
from puriflow.config import Config
from puriflow.errors import UserError
from puriflow.results.base import joined
from puriflow.results.rows import Threat

COLUMNS = ("attack_asr", "checks_failed")


def knowing(track: Config, threats: Sequence[Threat]) -> int:
    """Which of a row's attacks knows most of the defence: the first that goes through all of it."""

    def knows(threat: Threat) -> tuple[bool, bool, bool]:
        exact = track.part("attack", threat.attack).value("gradient") in (None, "full")
        return threat.victim == "defence", threat.surrogate is None, exact

    return max(range(len(threats)), key=lambda number: knows(threats[number]))


def file_of(attacked: Chain, count: int) -> str:
    """The file of the audit of a chain's attack on so many images, below the results."""
    return f"audits/{attacked.dataset}/{attacked.attack}/{attacked.victim}/{count}.json"


def cells(file: Path, note: str) -> dict[str, Any]:
    """A row's cells of its audit; the note says which checks failed.

    Raises:
        UserError: the file is missing, or is no audit.
    """
    try:
        audit = Audit.from_json(file.read_text())
    except OSError as error:
        raise UserError(f"audit {file}: {error.strerror or error}; build it first") from None
    except UserError as error:
        raise UserError(f"audit {file}: {error}; build it again") from None
    said = audit.cells()
    failed = ", ".join(check.name for check in audit.failed)
    why = f"audit of {audit.attack} on {audit.images} images: {failed} failed"
    return {
        "attack_asr": said["attack_asr"],
        "checks_failed": said["failed"],
        "note": joined(note, failed and why),
    }
