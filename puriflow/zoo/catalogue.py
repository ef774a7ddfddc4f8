"""The catalogue of official checkpoints (entries.yaml), and where their files are on this machine.

A file lies in one of the user's own folders, under its official name, or in the cache, as
`<cache>/<entry>/<file>`. Three environment variables say where; a configuration's `zoo` section
sets those that are not set:

    PURIFLOW_CACHE    the cache; default ~/.cache/puriflow
    PURIFLOW_WEIGHTS  the user's folders, separated like PATH
    PURIFLOW_ZOO      a YAML file with further entries, of the user's own

No torch is imported here.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from puriflow.errors import Problem, unknown

PREFIX = "zoo:"  # `weights: zoo:NAME` in a specification
OFFICIAL = Path(__file__).with_name("entries.yaml")


class Entry(BaseModel):
    """A checkpoint. See entries.yaml for what the fields mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    def identity(self) -> str:
        """What tells these weights from others before they are here: a published hash, or none."""
        return self.sha256 or self.md5 or f"{self.file}, no hash published"


# As names of a configuration, so that they can be part of paths.
ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], Entry])


def entries() -> dict[str, Entry]:
    """All entries by name: the official ones, and the user's.

    Raises:
        Problem: the user's file cannot be read or has a mistake.
    """
    own = os.environ.get("PURIFLOW_ZOO")
    return _read(OFFICIAL) | (_read(Path(own)) if own else {})


@cache
def _read(file: Path) -> dict[str, Entry]:
    try:
        return ENTRIES.validate_python(yaml.safe_load(file.read_text()) or {})
    except OSError as error:
        raise Problem(f"zoo file {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise Problem(f"zoo file {file}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise Problem(f"zoo file {file}: {place or 'the file'}: {first['msg']}") from None


def entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
        Problem: there is none.
    """
    known = entries()
    if name not in known:
        raise unknown("zoo entry", name, known)
    return known[name]


def cache_folder() -> Path:
    """Where downloads are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "puriflow"
    return Path(os.environ.get("PURIFLOW_CACHE") or default).expanduser().absolute()


def own_folders() -> list[Path]:
    """The user's folders of official files."""
    given = os.environ.get("PURIFLOW_WEIGHTS", "").split(os.pathsep)
    return [Path(folder).expanduser().absolute() for folder in given if folder]


def cached(name: str, file: str) -> Path:
    """Where the cache keeps a file of an entry, whether it is there or not."""
    return cache_folder() / name / file


def find(name: str, file: str) -> Path | None:
    """A file of an entry that is here: in the user's folders, else in the cache."""
    places = [folder / file for folder in own_folders()] + [cached(name, file)]
    return next((place for place in places if place.is_file()), None)


def by_hand(name: str) -> Problem:
    """How to get an entry that no program can download."""
    what = entry(name)
    return Problem(
        f"{name} must be fetched by hand: save {what.by_hand} as {cached(name, what.file)} (or as "
        f"{what.file} in a folder of PURIFLOW_WEIGHTS), and call this again"
    )


def ready_file(name: str) -> Path:
    """The file that is loaded for an entry: the one that is here, else its place in the cache."""
    file = entry(name).ready
    return find(name, file) or cached(name, file)


def resolve(weights: str | Path) -> Path:
    """The file behind `weights`: a path, or `zoo:NAME`.

    Raises:
        Problem: the entry is unknown, or its file is not here.
    """
    if not str(weights).startswith(PREFIX):
        return Path(weights)
    name = str(weights).removeprefix(PREFIX)
    found = find(name, entry(name).ready)
    if found is None:
        raise Problem(f"the weights {name} are not here; get them by: puriflow zoo fetch {name}")
    return found
