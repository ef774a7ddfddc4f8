"""What a folder of purified images says about itself: what made each file, in `purified.jsonl`.

By it a run that was killed goes on after its last finished file, files that are new are added, and
no file is ever replaced but those that the same command made and nobody has changed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from puriflow.atomic import lock, publish, sha256
from puriflow.errors import UserError

BEHIND_RESULTS = False
NAME = "purified.jsonl"


class Record:
    """The record of a folder of results, made if need be, which one process at a time may hold.

    Raises:
        UserError: the folder cannot be one, another process holds it, or its record is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            held = lock(folder / NAME, wait=False)
        except OSError as error:
            raise UserError(f"folder {folder} cannot be written: {error.strerror}") from None
        if held is None:
            raise UserError(f"folder {folder} is being written by another process")
        self.file = held
        # What made a file, by its name and its sha256.
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            self._load()
        except (ValueError, TypeError, KeyError):
            self.close()
            name = folder / NAME
            raise UserError(f"{name} is no record of purified files: move it away") from None

    def _load(self) -> None:
        self.file.seek(0)
        text = self.file.read()
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                if line.startswith("{"):  # it was cut off by a kill
                    continue
                raise
            self.entries[entry["file"], entry["sha256"]] = dict(entry["made_by"])
        if not text.endswith("\n") and text:
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
        """Make the folder of a file."""
        parent = (self.folder / name).parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"folder {parent} cannot be made: {error.strerror}") from None

    @contextmanager
    def writing(self, name: Path, made_by: dict[str, Any]) -> Generator[Path]:
        """Yields a path to write to, which becomes the file when all went well."""
        final = self.folder / name
        # Not by `Replacing`: its name is longer than that of the file, which may be the longest.
        temporary = final.with_name(".purifying")
        _remove(temporary)  # of a run that was killed
        try:
            yield temporary
            # Before the file appears: what is there must always be known.
            entry = {"file": str(name), "sha256": tree_hash(temporary), "made_by": made_by}
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.entries[entry["file"], entry["sha256"]] = made_by
            publish(temporary, final)
        except OSError as error:
            raise UserError(f"{final} cannot be written: {error}") from None
        finally:
            _remove(temporary)

    def _made_by(self, name: Path) -> dict[str, Any] | None:
        """What made a file that is there; None if that is not known."""
        return self.entries.get((str(name), tree_hash(self.folder / name)))


def tree_hash(path: Path) -> str:
    """sha256 of a file, or of all names and files of a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(f for f in path.rglob("*") if f.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
