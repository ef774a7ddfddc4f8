"""What a folder of purified images says about itself: what made each file, in `purified.jsonl`.

By it a run that was killed goes on after its last finished file, and no file is ever replaced but
those that the same command made and nobody has changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from puriflow.errors import Problem
from puriflow.provenance import file_hash
from puriflow.store import sync_tree

NAME = "purified.jsonl"


class Record:
    """The record of a folder, which only one process at a time may hold.

    Args:
        folder: of the results; made if it is not there.

    Raises:
        Problem: the folder cannot be one, or another process holds it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = (folder / NAME).open("a+")
        except OSError as error:
            raise Problem(f"folder {folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(f"folder {folder} is being written by another process") from None
        self.file.seek(0)
        text = self.file.read()
        if not text.endswith("\n") and text:  # a line that was cut off by a kill
            self.file.write("\n")
        self.entries: dict[str, dict[str, Any]] = {}
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            self.entries[entry["file"]] = entry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def is_done(self, name: Path, made_by: dict[str, Any]) -> bool:
        """Whether a file is there already, made by the same and unchanged.

        Raises:
            Problem: there is another file of that name.
        """
        if not (self.folder / name).exists():
            return False
        if self._is_ours(name) and self.entries[str(name)]["made_by"] == made_by:
            return True
        raise Problem(
            f"{self.folder / name} exists and was not made by this very command: "
            "name another folder, or move it away"
        )

    def may_replace(self, name: Path) -> bool:
        """Whether a file is not there, or was made here and nobody has changed it since."""
        return not (self.folder / name).exists() or self._is_ours(name)

    @contextmanager
    def writing(self, name: Path, made_by: dict[str, Any]) -> Iterator[Path]:
        """Yields a path to write to, which becomes the file when all went well."""
        final = self.folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.purifying")
        _remove(temporary)  # of a run that was killed
        try:
            yield temporary
            sync_tree(temporary)
            # Before the file appears: what is there must always be known.
            entry = {"file": str(name), "sha256": tree_hash(temporary), "made_by": made_by}
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.entries[str(name)] = entry
            os.rename(temporary, final)
        finally:
            _remove(temporary)

    def _is_ours(self, name: Path) -> bool:
        entry = self.entries.get(str(name))
        return entry is not None and entry["sha256"] == tree_hash(self.folder / name)


def tree_hash(path: Path) -> str:
    """sha256 of a file, or of all names and files of a folder."""
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(f for f in path.rglob("*") if f.is_file()):
        digest.update(f"{file.relative_to(path)} {file_hash(file)}\n".encode())
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
