"""Reading and checking a track, and writing it as the one file that all commands of a run get."""

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from puriflow.atomic import write_text
from puriflow.config.track import TRAINABLE, Config
from puriflow.errors import UserError, unknown
from puriflow.options import shown
from puriflow.registry import FAMILIES, NONE
from puriflow.renames import KEYS_RENAMED
from puriflow.shipped import shipped
from puriflow.yaml_files import dump_yaml, parse_yaml, read_yaml
from puriflow.zoo.catalogue import PREFIX

BEHIND_RESULTS = False
SECTIONS = {family.section for family in FAMILIES}
WHOLE = {"kind", "zoo", "unavailable"}  # an entry with one of these needs none that it extends
Model = TypeVar("Model", bound=BaseModel)
Raw = TypeVar("Raw")


def default_track() -> Path:
    """The file of the default track: `config/config.yaml` here, else the one that PuriFlow ships.

    The first is a relative path, the other an absolute one.
    """
    own = Path("config/config.yaml")
    return own if own.is_file() else shipped(own)


def load_config(path: str | Path | None = None) -> Config:
    """Read and check the file of a track; without one, that of the default track.

    Raises:
        UserError: the file is missing, is not YAML, or says something that is not known.
    """
    path = default_track() if path is None else path
    if not isinstance(path, str | Path):
        raise UserError(f"config is {shown(path)}, but must be a track, or the name of its file")
    return check_config(_read(path), where=f"config {path}")


def read_track(files: Sequence[str | Path], pairs: Iterable[str] = ()) -> dict[str, Any]:
    """A track as Snakemake is given it: `--configfile FILES --config PAIRS`.

    Each file changes what those before it say, and the pairs change all of them, entry by entry.

    Args:
        files: by default that of the default track.
        pairs: KEY=VALUE, each value in YAML.

    Raises:
        UserError: a file or a value is not YAML or no mapping, or another than the first one
            extends a track.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        changes = merged(changes, {key: parse_yaml(value, f"--config {key}")})
    if not files and "extends" not in changes:
        files = [default_track()]
    layers = [(f"config {file}", read_yaml(file, "config"), (Path(file),)) for file in files]
    whole: dict[str, Any] = {}
    for where, layer, by in [*layers, ("--config", changes, ())]:
        if not isinstance(layer, Mapping):
            raise UserError(f"{where}: no mapping of sections")
        if whole and "extends" in layer:
            raise UserError(f"{where}: only the first file may extend a track; leave `extends` out")
        whole = merged(whole, extended(layer, by))
    return whole


def check_config(raw: object, *, where: str = "config") -> Config:
    """Check a track that was read, down to the option names of every part."""
    config = validated(Config, extended(raw), where)
    for family in FAMILIES:
        for name in getattr(config, family.section):
            if name == NONE:
                raise UserError(f"{where}: {family.section}.{NONE} is a reserved name")
            if config.why_unavailable(family.roles[0], name) is None:
                config.part(family.roles[0], name)
    for section in TRAINABLE:
        for name, recipe in getattr(config.training, section).items():
            if name not in getattr(config, section):
                raise unknown(f"{section} (of training)", name, getattr(config, section))
            if (start := recipe.get("start")) is not None:
                config.training.recipe(section, start)
    return config


def extended(raw: Raw, by: tuple[Path, ...] = ()) -> Raw | dict[str, Any]:
    """A track with what it leaves out taken from the track that it extends, entry by entry.

    `extends: FILE` names that track. It and weights are looked for in the working folder, then
    beside the file that names them and in the folder above, then among what PuriFlow ships; weights
    that are not in the working folder get their absolute path.

    Args:
        raw: what the track says.
        by: the files that led to it; the last one says it.
    """
    if not isinstance(raw, Mapping):
        return raw
    own = {
        key: _with_weights(value, by) if key in SECTIONS else value for key, value in raw.items()
    }
    if "extends" not in own:
        return own
    given = own.pop("extends")
    if not isinstance(given, str):
        raise UserError(f"extends is {given!r}; give the name of one file")
    base = _read(_extended_file(given, by), by)
    if not isinstance(base, Mapping):
        raise UserError(f"config {given} is no track, so that none can extend it")
    return merged(base, own)


def _read(file: str | Path, by: tuple[Path, ...] = ()) -> Any:
    """What the file of a track says, with all that it extends."""
    return extended(read_yaml(file, "config"), (*by, Path(file)))


def _found(given: str, by: tuple[Path, ...]) -> Iterator[Path]:
    """The files that a path in a track may mean, the nearest first; see `extended`."""
    beside = [Path(os.path.abspath(by[-1])).parent] if by else []
    folders = [Path(), *beside, *(folder.parent for folder in beside), shipped("")]
    return (folder / given for folder in folders if os.path.isfile(folder / given))


def _with_weights(section: Any, by: tuple[Path, ...]) -> Any:
    """A section of a track with the paths at which its weights are."""
    if not isinstance(section, Mapping):
        return section
    found = dict(section)
    for name, entry in section.items():
        given = entry.get("weights") if isinstance(entry, Mapping) else None
        if isinstance(given, str) and not given.startswith(PREFIX):
            found[name] = {**entry, "weights": str(next(_found(given, by), given))}
    return found


def _extended_file(given: str, by: tuple[Path, ...]) -> Path:
    """The file of the track that is extended, which is never the one that says so.

    So `config/config.yaml` of one's own may extend the `config/config.yaml` that PuriFlow ships.
    """
    before = [file.resolve() for file in by]
    there = list(_found(given, by))
    others = [file for file in there if file.resolve() not in before[-1:]]
    if not there:
        return Path(given)  # which cannot be read
    if not others or others[0].resolve() in before:
        way = by[before.index(others[0].resolve()) + 1 :] if others else ()
        among = ", ".join(map(str, way))
        raise UserError(f"config {given} extends itself" + (among and f", by way of {among}"))
    return others[0]


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of both, and in them entries of both.

    An entry of `own` that says what serves its role stands for itself; another one changes that of
    `base`, as `--config` does.
    """
    found = dict(base)
    for key, value in own.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = merged(old, value) if both and not WHOLE & set(value) else value
    return found


def write_config(raw: Mapping[str, Any], folder: Path) -> Path:
    """Write a track that was checked, with all that was overridden, as `folder/TRACK-DIGEST.yaml`.

    The file is named by its content; one that is there with this content is left alone.
    """
    whole = extended(raw)
    text = dump_yaml(whole)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    file = folder / f"{whole['track']}-{digest}.yaml"
    if not file.is_file() or file.read_bytes() != text.encode():  # as of a flipped bit
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return file


def validated(model: type[Model], raw: object, where: str) -> Model:
    """Plain data as a pydantic model says it, strictly: "4", 4.0 and true are no whole numbers.

    Raises:
        UserError: the first error, with the nearest name.
    """
    try:
        text = json.dumps(raw)
        _check_keys(raw, where)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: {error}") from None
    with explained(model, where):
        return model.model_validate_json(text, strict=True)  # where a tuple may be a list


def _check_keys(raw: object, where: str) -> None:
    """Refuse keys that are no text: JSON would make one of them, of None the text "null"."""
    if isinstance(raw, Mapping):
        for key in raw:
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {shown(key)} is no text")
            _check_keys(raw[key], where)
    elif isinstance(raw, list | tuple):
        for value in raw:
            _check_keys(value, where)


@contextmanager
def explained(model: type[BaseModel], where: str) -> Generator[None]:
    """Turn the first error of a model into a UserError with the nearest name."""
    try:
        yield
    except ValidationError as error:
        # A misspelt key is the cause of the missing one, before which it is reported.
        order = {"extra_forbidden": 0, "missing": 2}
        first = min(error.errors(), key=lambda e: order.get(e["type"], 1))
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            for old, new in KEYS_RENAMED.items():
                if fnmatch(place, old):
                    raise UserError(f"{where}: {place} is now {new}") from None
            if len(first["loc"]) == 1:
                raise unknown(f"key (in {where})", place, model.model_fields) from None
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(": ".join(filter(None, (where, place, reason)))) from None
    except UserError as error:  # of a check that is not only a model's
        raise UserError(f"{where}: {error}") from None
