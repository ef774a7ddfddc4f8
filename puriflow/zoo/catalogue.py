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
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from puriflow.errors import UserError, unknown
from puriflow.yaml_files import read_yaml

BEHIND_RESULTS = False

PREFIX = "zoo:"  # `weights: zoo:NAME` in an entry of a track
OFFICIAL = Path(__file__).with_name("entries.yaml")


class Entry(BaseModel, extra="forbid", frozen=True):
    """A checkpoint. See entries.yaml for what the fields mean."""

    family: Literal["networks", "restorers", "classifiers", "features"]
    part: dict[str, Any]
    file: Annotated[str, Field(pattern=r"^[^/\s]+$")]
    url: str | None = None
    by_hand: str | None = None
    convert: Literal["edm", "score-sde", "esrgan"] | None = None
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    licence: str
    input: str
    source: str

    @model_validator(mode="after")
    def _a_way(self) -> "Entry":
        if self.url is None and self.by_hand is None:
            raise ValueError("give url or by_hand")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ValueError("url is neither https nor http")
        return self

    @property
    def ready(self) -> str:
        """Name of the file that is loaded: the converted one where there is a converter."""
        return f"{Path(self.file).stem}.safetensors" if self.convert else self.file

    @property
    def hashes(self) -> dict[str, str]:
        """The published hashes, by algorithm."""
        pairs = {"sha256": self.sha256, "md5": self.md5}
        return {algorithm: digits for algorithm, digits in pairs.items() if digits}

    @property
    def identity(self) -> str:
        """What tells these weights from others before they are here: a published hash, or none."""
        return self.sha256 or self.md5 or f"{self.file}, no hash published"


# As names of a configuration, so that they can be part of paths.
ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], Entry])


class Zoo(BaseModel, extra="forbid", frozen=True):
    """Where official checkpoints are: the `zoo` section of a configuration."""

    cache: str | None = Field(None, description="folder of downloads (PURIFLOW_CACHE)")
    folders: tuple[str, ...] = Field((), description="your own folders of files (PURIFLOW_WEIGHTS)")
    entries: str | None = Field(None, description="YAML of your own entries (PURIFLOW_ZOO)")

    def known(self) -> dict[str, Entry]:
        """All entries by name: the official ones and the user's; a UserError if these are wrong."""
        own = os.environ.get("PURIFLOW_ZOO") or self.entries
        return _read(OFFICIAL) | (_read(Path(own)) if own else {})

    def entry(self, name: str) -> Entry:
        """The entry of a name; a UserError names the nearest one if there is none."""
        known = self.known()
        if name not in known:
            raise unknown("zoo entry", name, known)
        return known[name]

    @property
    def cache_folder(self) -> Path:
        """Where downloads are kept."""
        default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "puriflow"
        given = os.environ.get("PURIFLOW_CACHE") or self.cache
        return Path(given or default).expanduser().absolute()

    def cached(self, name: str, file: str) -> Path:
        """Where the cache keeps a file of an entry, whether it is there or not."""
        return self.cache_folder / name / file

    def find(self, name: str, file: str) -> Path | None:
        """A file of an entry that is here: in the user's folders, else in the cache."""
        listed = os.environ.get("PURIFLOW_WEIGHTS")
        folders = listed.split(os.pathsep) if listed else self.folders
        own = [Path(folder).expanduser().absolute() / file for folder in folders if folder]
        return next((place for place in [*own, self.cached(name, file)] if place.is_file()), None)

    def ready_file(self, name: str) -> Path:
        """The file that is loaded for an entry: that which is here, else its place in the cache."""
        file = self.entry(name).ready
        return self.find(name, file) or self.cached(name, file)

    def by_hand(self, name: str) -> UserError:
        """How to get an entry that no program can download."""
        what = self.entry(name)
        place = self.cached(name, what.file)
        return UserError(
            f"{name} must be fetched by hand: save {what.by_hand} as {place} (or as "
            f"{what.file} in a folder of PURIFLOW_WEIGHTS), and call this again"
        )


@cache
def _read(file: Path) -> dict[str, Entry]:
    try:
        return ENTRIES.validate_python(read_yaml(file, "zoo file") or {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"zoo file {file}: {place or 'the file'}: {first['msg']}") from None
