"""An RO-Crate of a finished result: its files, what it was made from, and metadata for Zenodo.

One action by PuriFlow made the result's files from a track, data and weights, whose hashes the
crate says. The manifests of all stores lie in it, and not their arrays, which may have many GB.
"""

import json
import logging
import mimetypes
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from puriflow.atomic import publish, sha256
from puriflow.config import Config, load_config, read_track
from puriflow.errors import UserError, on_disk
from puriflow.lineage import Place
from puriflow.provenance import versions, weights_hashes
from puriflow.results import Result, load_result
from puriflow.results.measures import Stores
from puriflow.shipped import shipped
from puriflow.store import MANIFEST, Stage
from puriflow.yaml_files import dump_yaml

BEHIND_RESULTS = False
log = logging.getLogger(__name__)
PAPER = "Adversarial Purification via Super-Resolution and Diffusion (ICCV 2025)"
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")  # an identifier of SPDX
ORCID = re.compile(r"(.*\S)\s+((?:\d{4}-){3}\d{3}[\dX])")  # behind a name


@dataclass(frozen=True)
class Archived:
    """What goes into a crate.

    Attributes:
        name: of the result.
        files: of the result, by their paths in the crate.
        inputs: files that it was made from, alike.
        stages: its stores, by their folders below the results.
        weights: names and hashes of the files of weights behind it.
        versions: of the libraries behind it, by name; of several where stores differ.
    """

    name: str
    track: Config
    result: Result
    files: dict[str, Path]
    inputs: dict[str, Path]
    stages: dict[str, Stage]
    weights: set[tuple[str, str]]
    versions: dict[str, set[str]]


def archive(
    file: Path, config: Path, results: Path, out: Path, *, creators: list[str], licence: str
) -> Path:
    """Write the crate of a result into a new folder.

    Args:
        file: of the result, `config/tables/NAME.yaml` and the like.
        config: file of the track.
        results: where its stores are, which are verified, and its files.
        out: the folder, which is not there or is empty.
        creators: names of persons, each maybe with an ORCID behind it.
        licence: of the result, as SPDX calls it.

    Raises:
        UserError: the result is not finished, a store is not as it should be, or one of these is
            something else.
    """
    if not LICENCE.fullmatch(licence):
        raise UserError(
            f"licence {licence!r} is no identifier of SPDX, as CC-BY-4.0 or MIT (spdx.org/licenses)"
        )
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise UserError("an archive needs rocrate: pip install 'puriflow[archive]'") from None
    with on_disk(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is there, and is no empty folder: name a new one")
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
            track = Path(made, config.name)
            track.write_text(_without_folders(dump_yaml(read_track([config]))))
            what = _gathered(file, load_config(config), results, {f"config/{track.name}": track})
            crate: Any = ROCrate(gen_preview=True)
            people = _describe(crate, what, creators, licence)
            _add_run(crate, what, people)
            zenodo = Path(made, ".zenodo.json")
            zenodo.write_text(json.dumps(_for_zenodo(what, people, licence), indent=1) + "\n")
            _add_file(crate, zenodo, zenodo.name, "metadata for Zenodo")
            crate.write(Path(made, "crate"))
            publish(Path(made, "crate"), out)
    return out


def _without_folders(text: str) -> str:
    """A text in which paths of PuriFlow's own files, and of those below here, are relative."""
    for folder in (shipped(""), Path.cwd()):
        text = re.sub(rf"(?<![\w./-]){re.escape(str(folder).rstrip('/'))}/", "", text)
    return text


def _say_folders(stages: Iterable[Stage]) -> None:
    """Say which manifests, which are hashed and stay as they are, name folders of this machine."""
    named = [s.folder for s in stages if re.search(r'"/[^"]', json.dumps(s.manifest["upstream"]))]
    if named:
        log.warning(
            f"{len(named)} manifests name folders of this machine, the first that of {named[0]}: "
            "stages were given absolute paths"
        )


def _gathered(file: Path, track: Config, results: Path, inputs: dict[str, Path]) -> Archived:
    """All that goes into the crate, with every store verified and held against the track."""
    name, result = file.stem, load_result(file)
    inputs = {f"config/{result.folder}/{file.name}": file, **inputs}
    inputs |= {f"results/{path}": results / path for path in result.files(track)}
    files = {f"results/{path}": results / path for path in result.outputs(name).values()}
    for path in (*files.values(), *inputs.values()):
        if not path.is_file():
            raise UserError(f"{path} is not there: build {name} first (snakemake)")
    stores = Stores(track, results)
    stages = {folder: stores.open(folder) for folder in result.stores(track)}
    _say_folders(stages.values())
    weights = set(weights_hashes(result.parts(track)).items())
    made = [stage.manifest["versions"] for stage in stages.values()]
    used: dict[str, set[str]] = {}
    for package, version in (
        x for one in made or [versions(*result.modules())] for x in one.items()
    ):
        used.setdefault(package, set()).add(version)
    for stage in stages.values():
        weights |= set(stage.manifest["weights"].items())
    return Archived(name, track, result, files, inputs, stages, weights, used)


def _title(what: Archived) -> str:
    return f"{what.name}: {what.result.title}"


def _description(what: Archived) -> str:
    return (
        f"{what.result.source}: {what.result.title}. Made by PuriFlow {_version(what)}, "
        f"which implements {PAPER}; with the manifests of the {len(what.stages)} stores that it "
        "was built of."
    )


def _version(what: Archived) -> str:
    """The versions of PuriFlow that made the stores."""
    return " and ".join(sorted(what.versions["puriflow"]))


def _describe(crate: Any, what: Archived, creators: list[str], licence: str) -> list[Any]:
    """Say what the crate is; returns its creators."""
    from rocrate.model import Person

    people = []
    for given in creators:
        known = ORCID.fullmatch(given)
        if not given.strip() or (known is None and re.search(r"\d|orcid", given, re.IGNORECASE)):
            raise UserError(
                f"creator {given!r} is no name, maybe with an ORCID behind it, as "
                "'Ada Lovelace 0000-0002-1825-0097'"
            )
        name = known[1] if known else given
        place = f"https://orcid.org/{known[2]}" if known else f"#{quote(name)}"
        people.append(crate.add(Person(crate, place, {"name": name})))
    crate.name, crate.description = _title(what), _description(what)
    crate.license = _licence(crate, licence)
    crate.creator = _one_or_all(people)
    crate.preview["name"] = "this crate as a page"
    return people


def _licence(crate: Any, name: str) -> Any:
    from rocrate.model import ContextEntity

    said = {"@type": "CreativeWork", "name": name, "description": f"the licence {name} of SPDX"}
    return crate.add(ContextEntity(crate, f"https://spdx.org/licenses/{name}", said))


def _one_or_all(entities: list[Any]) -> Any:
    """Entities as the value of a property, of which a single one stands without a list."""
    return entities[0] if len(entities) == 1 else entities


def _add_run(crate: Any, what: Archived, people: list[Any]) -> None:
    """The action that made the result, with all that it is from."""
    made = [_add_file(crate, path, name, _title(what)) for name, path in what.files.items()]
    inputs = [
        _add_file(crate, path, name, "what was asked for") for name, path in what.inputs.items()
    ]
    for folder, stage in what.stages.items():
        says = f"manifest of the stage {stage.manifest['stage']}, by code {stage.manifest['code']}"
        place = f"results/{folder}/{MANIFEST}"
        inputs.append(_add_file(crate, stage.folder / MANIFEST, place, says))
    inputs += [*_weights(crate, what), *_data(crate, what)]
    written = max(path.stat().st_mtime for path in what.files.values())
    action = crate.add_action(
        _software(crate, what.versions),
        identifier="#run",
        object=inputs,
        result=made,
        properties={
            "name": f"puriflow result {what.name}",
            "description": _description(what),
            "endTime": datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds"),
        },
    )
    action["agent"] = _one_or_all(people)
    crate.root_dataset["mentions"] = action


def _add_file(crate: Any, path: Path, name: str, says: str) -> Any:
    said = {
        "name": name,
        "description": says,
        "sha256": sha256(path),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": mimetypes.guess_type(name)[0] or "text/plain",
    }
    return crate.add_file(path, name, properties=said)


def _software(crate: Any, used: dict[str, set[str]]) -> Any:
    """PuriFlow, and the libraries that were behind the result."""
    from rocrate.model import SoftwareApplication

    def of(package: str, **more: Any) -> list[Any]:
        found = []
        for version in sorted(used[package]):
            said = {
                "name": package,
                "version": version,
                "url": f"https://pypi.org/project/{package}/",
            }
            place = f"#{package}-{quote(version)}"
            found.append(crate.add(SoftwareApplication(crate, place, {**said, **more})))
        return found

    others = [package for package in used if package != "puriflow"]
    needs = [{"@id": one.id} for package in others for one in of(package)]
    licence = {"@id": _licence(crate, "MIT").id}
    return _one_or_all(of("puriflow", license=licence, softwareRequirements=needs))


def _weights(crate: Any, what: Archived) -> Iterator[Any]:
    """Files of weights by their hashes; of those of the zoo, where they come from as well."""
    from rocrate.model import ContextEntity

    known = what.track.zoo.known()
    for label, digest in sorted(what.weights):
        said = {"@type": "CreativeWork", "name": f"weights {label}", "sha256": digest}
        name = label.removeprefix("zoo:").partition(" (")[0]
        entry = known.get(name) if label.startswith("zoo:") else None
        if entry is not None:
            # The hash of a conversion is not that of the file that is published.
            link = "isBasedOn" if entry.convert else "url"
            said |= {"license": entry.licence, **({link: entry.url} if entry.url else {})}
        yield crate.add(ContextEntity(crate, f"#weights-{digest}", said))


def _data(crate: Any, what: Archived) -> Iterator[Any]:
    """The data whose images were stored, by the fingerprint of their files."""
    from rocrate.model import ContextEntity

    found = {}
    for stage in what.stages.values():
        if (place := Place.of(stage.folder)) is not None and place.stage == "images":
            found[place.names["dataset"]] = stage.manifest["parameters"]["fingerprint"]
    for name, fingerprint in found.items():
        said = {"@type": "CreativeWork", "name": f"data set {name}", "identifier": fingerprint}
        yield crate.add(ContextEntity(crate, f"#data-{name}", said))


def _for_zenodo(what: Archived, people: list[Any], licence: str) -> dict[str, Any]:
    """What Zenodo asks of a record."""
    return {
        "upload_type": "dataset",
        "title": _title(what),
        "description": _description(what),
        "creators": [
            {"name": person["name"]}
            | ({"orcid": person.id.rpartition("/")[2]} if "orcid.org" in person.id else {})
            for person in people
        ],
        "license": licence.lower(),
        "access_right": "open",
        "version": _version(what),
        "keywords": ["adversarial robustness", "adversarial purification", "diffusion models"],
    }
