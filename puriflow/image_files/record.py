"""What a folder of purified images says about itself: what made each file, in `purified.jsonl`.

By it a run that was killed goes on after its last finished file, files that are new are added, and
no file is ever replaced but those that the same command made and nobody has changed. A line carries
its own sha256, so that no flipped bit passes another run's image for this one's.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puriflow.atomic import lock, publish
from puriflow.errors import UserError, on_disk
from puriflow.image_files.files import is_within, tree_hash

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
NAME = "purified.jsonl"
START = b'{"file": "'  # of a line; a kill may have left less
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.purifying")  # a name that nobody else gives


class Record:
    """The record of a folder of results, made if need be, which one process at a time may hold.

    Raises:
        UserError: the folder cannot be one, another process holds it, or its record is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        file = folder / NAME
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise UserError(f"{file} is no file of its own: move it away")
        try:
            held = lock(file, wait=False)
        except OSError as error:
            raise UserError(f"folder {folder} cannot be written: {error.strerror}") from None
        if held is None:
            raise UserError(f"folder {folder} is being written by another process")
        self.file = held
        # What made a file, by its name and its sha256.
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            self._load()
            for left in folder.iterdir():  # by a run that was killed
                if TEMPORARY.fullmatch(left.name):
                    _remove(left)
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        file = self.folder / NAME
        with on_disk(file):
            content = file.read_bytes()
        damaged, strange = [], False
        for number, line in enumerate(content.splitlines(), 1):
            if (entry := _entry(line)) is not None:
                self.entries[entry["file"], entry["sha256"]] = entry["made_by"]
            else:
                damaged.append(number)
                strange |= not (line.startswith(START) or START.startswith(line))
        if strange and not self.entries:
            raise UserError(f"{file} is no record of purified files: move it away")
        if damaged:
            lines = ", ".join(map(str, damaged))
            log.warning(f"{file}: line {lines} cut off by a kill or damaged, and left out")
        if content and not content.endswith(b"\n"):
            self.file.write("\n")

    def close(self) -> None:
        self.file.close()  # and the lock with it

    def is_done(self, name: Path, made_by: dict[str, Any]) -> bool:
        """Whether a file is there already, made by the same and unchanged.

        Raises:
            UserError: there is another file of that name.
        """
        if not os.path.lexists(self.folder / name):
            return False
        recorded = self._made_by(name)
        if recorded == made_by:
            return True
        if recorded is None:
            why = "was not made here, or has been changed"
        else:
            keys = recorded | made_by
            others = [key for key in keys if recorded.get(key) != made_by.get(key)]
            why = f"was made differently ({', '.join(others)})"
        raise UserError(
            f"{self.folder / name} exists and {why}: name another folder, or move it away"
        )

    def may_replace(self, name: Path) -> bool:
        """Whether a file is not there, or was made here and nobody has changed it since."""
        return not os.path.lexists(self.folder / name) or self._made_by(name) is not None

    def make_folder(self, name: Path) -> None:
        """Make the folder of a file, and see that it can be written."""
        parent = (self.folder / name).parent
        if not is_within(parent, self.folder):
            raise UserError(f"folder {parent} leads out of {self.folder}: name another folder")
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {parent} cannot be made: {error.strerror}") from None
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"folder {parent} cannot be written: Permission denied")

    @contextmanager
    def writing(self, name: Path, made_by: dict[str, Any]) -> Generator[Path]:
        """Yields a path to write to, which becomes the file when all went well."""
        final = self.folder / name
        # Not by `Replacing`: its name is longer than that of the file, which may be the longest.
        temporary = self.folder / f".{uuid.uuid4().hex}.purifying"
        try:
            yield temporary
            # Before the file appears: what is there must always be known.
            entry = {"file": str(name), "sha256": tree_hash(temporary), "made_by": made_by}
            self.file.write(json.dumps({**entry, "check": _check(entry)}) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            if not self.may_replace(name):
                raise UserError(f"{final} has appeared meanwhile: move it away")
            self.entries[str(name), entry["sha256"]] = made_by
            publish(temporary, final)
        except OSError as error:
            raise UserError(f"{final} cannot be written: {error}") from None
        finally:
            _remove(temporary)

    def _made_by(self, name: Path) -> dict[str, Any] | None:
        """What made a file that is there; None if that is not known."""
        file = self.folder / name
        there = file.is_file() or file.is_dir()
        return self.entries.get((str(name), tree_hash(file))) if there else None


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, if it is as it was written."""
    try:
        entry = json.loads(line)
        check = entry.pop("check")
        whole = check == _check(entry) and isinstance(entry["made_by"], dict)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if whole else None


def _check(entry: dict[str, Any]) -> str:
    """The sha256 that a line carries of what it says."""
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
