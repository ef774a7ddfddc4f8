"""Upkeep of results: what is wrong below a folder, and what has to go so that a run makes it anew.

Stores are held against their manifests and against each other along the chain, files of weights
against the manifests that name them, and work under way against its seals. Links are not followed.
"""

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path, PurePath
from types import MappingProxyType

from puriflow.atomic import sealed_content
from puriflow.checksums import check_beside, file_hash, forget
from puriflow.elsewhere import folders_below, is_dir, is_file
from puriflow.errors import UserError, on_disk
from puriflow.lineage import (
    ROLES,
    Place,
    check_data,
    check_same_samples,
    check_shards,
    check_source,
    check_stage,
)
from puriflow.provenance import data_hash
from puriflow.registry import Parts, Weights
from puriflow.store import MANIFEST, Stage, open_stage
from puriflow.store.holding import held_by_another
from puriflow.store.manifest import TIMING, owned
from puriflow.store.work import LOCK, damaged_work, work_under_way

BEHIND_RESULTS = False
OWN = (MANIFEST, TIMING, ".snakemake_timestamp")  # in a store's folder, beside its Zarr group


@dataclass
class Survey:
    """What is below a folder.

    Attributes:
        root: the folder.
        stores: folders of finished stores, whole or broken.
        stages: those of them whose manifests can be read, by folder.
        work: folders of stores under way, and checkpoints of training.
        weights: files that stores may have loaded, and that are here.
        broken: stores and files of work that nothing can go on from, and why.
        changed: files of weights that are not what is published or what stores loaded, and what is
            wrong with that.
    """

    root: Path
    stores: list[Path] = field(default_factory=list)
    stages: dict[Path, Stage] = field(default_factory=dict)
    work: list[Path] = field(default_factory=list)
    weights: list[Path] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    changed: dict[Path, str] = field(default_factory=dict)


def survey(root: Path) -> Survey:
    """Find all stores below a folder, and read their manifests.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    found = Survey(root)
    with on_disk(root):
        if not is_dir(root):
            raise UserError(f"folder {root} does not exist")
        found.stores = sorted(stores_below(root), key=_along_the_chain)
    for folder in found.stores:
        try:
            found.stages[folder] = open_stage(folder, verify=False)
        except UserError as error:
            found.broken[folder] = str(error)
    return found


def verified(
    root: Path, weights: Collection[Weights] = (), datasets: Parts = MappingProxyType({})
) -> Survey:
    """Verify all that is below a folder of results, or one store.

    Args:
        root: the folder.
        weights: files that stores may have loaded.
        datasets: whose images may be stored, by name.

    Raises:
        UserError: see `survey`.
    """
    found = survey(root)
    with on_disk(root):
        for folder, stage in found.stages.items():
            try:
                _verify_store(found, stage, datasets)
            except UserError as error:
                found.broken[folder] = str(error)
        _verify_shards(found)
        _verify_work(found)
        _verify_weights(found, weights)
    return found


def stores_below(root: Path) -> Iterator[Path]:
    """Folders of finished stores, whole or broken."""
    for folder, inner in folders_below(root):
        if is_store(folder):
            yield folder
            inner.clear()
        inner[:] = [other for other in inner if not other.startswith(".")]


def is_store(folder: Path) -> bool:
    """Whether a stage has left a store in a folder, though it may be broken by now.

    In the place of a store, what looks like one is one. Elsewhere it must say itself that a stage
    has written it. Without a manifest, it is still to be finished if there is work to go on from.
    """
    unfinished = not is_file(folder / MANIFEST)
    if folder.name and unfinished and folder.with_name(f".{folder.name}.work").is_dir():
        return False
    if Place.of(folder) is not None:
        return any(folder.glob("*.zarr")) or (folder / MANIFEST).is_file()
    return bool(_groups(folder))


def _groups(folder: Path) -> list[str]:
    """Names of the Zarr groups in a folder that a stage has written: others are somebody else's."""
    if said := owned(folder):
        return list({PurePath(path).parts[0] for path in said} - {MANIFEST, TIMING})
    files = sorted(folder.glob("*.zarr/zarr.json"))  # no manifest, or a broken one
    return [f.parent.name for f in files if f.is_file() and b'"puriflow"' in f.read_bytes()]


def _along_the_chain(folder: Path) -> tuple[int, str]:
    place = Place.of(folder)
    return (-1 if place is None else list(ROLES).index(place.stage), str(folder))


def _verify_store(found: Survey, stage: Stage, datasets: Parts) -> None:
    """Hold a store against its manifest, and against what its chain has before it."""
    open_stage(stage.folder)
    if (place := Place.of(stage.folder)) is None:
        return
    check_stage(stage, place)
    if place.stage == "images" and (dataset := datasets.get(place.names["dataset"])):
        check_data(stage, dataset.name, data_hash(dataset))
    whole = found.stages.keys() - found.broken.keys()  # what follows a broken one goes with it
    if place.source is not None and place.source.folder in whole:
        check_source(stage, found.stages[place.source.folder])
    if place.images.folder in whole:
        check_same_samples(stage, found.stages[place.images.folder])


def _verify_shards(found: Survey) -> None:
    """Hold the shards of a stage against each other; which of them is wrong, nobody can say."""
    shards: dict[tuple[object, ...], list[Stage]] = defaultdict(list)
    for folder in found.stages.keys() - found.broken.keys():
        if place := Place.of(folder):
            of_stage = (place.stage, *place.names.values(), place.shard.partition("-")[2])
            shards[of_stage].append(found.stages[folder])
    for stages in shards.values():
        try:
            check_shards(sorted(stages, key=lambda stage: stage.folder))
        except UserError as error:
            found.broken |= {stage.folder: str(error) for stage in stages}


def _verify_work(found: Survey) -> None:
    """Hold work under way against its seals."""
    folders = work_under_way(found.root)
    checkpoints = sorted(found.root.glob("training/*/*.checkpoint"))
    damaged = [file for folder in folders for file in damaged_work(folder)]
    damaged += [file for file in checkpoints if sealed_content(file) is None]
    found.work = [*folders, *checkpoints]
    for file in damaged:
        found.broken[file] = f"{file} was damaged, and nothing can go on from it"


def _verify_weights(found: Survey, weights: Collection[Weights]) -> None:
    """Hold files of weights against what is published, and the manifests that name them."""
    here: dict[str, dict[str, Path]] = defaultdict(dict)  # by label and sha256
    forget(file for one in weights for file in (one.file, one.official))
    for one in weights:
        if one.file.is_file():
            here[one.label][file_hash(one.file)] = one.file
            try:
                one.check()
                check_beside(one.file)
            except UserError as error:
                found.changed[one.file] = str(error)
    found.weights = sorted({file for files in here.values() for file in files.values()})
    others: dict[Path, list[Path]] = defaultdict(list)
    for folder, stage in found.stages.items():
        for name, digest in stage.manifest["weights"].items():
            files = here.get(name) or here.get(name.removesuffix(f" ({digest[:8]})"), {})
            if files and digest not in files:
                others[next(iter(files.values()))].append(folder)
    for file, stores in sorted(others.items()):
        reason = f"weights {file} have changed since {len(stores)} stores loaded them"
        found.changed[file] = f"{reason}, first {min(stores)}"


def what_goes(found: Survey, asked: Collection[Path] = ()) -> dict[Path, str]:
    """What has to go, and why: what is broken or asked for, and the stores that were made from it.

    Each comes before what it was made from: whoever is interrupted goes on by doing it again.
    """
    gone = found.broken | dict.fromkeys(asked, "it is asked for")
    sources = _sources(found)
    order = list(TopologicalSorter(sources).static_order())
    for folder in order:
        first = next((source for source in sources.get(folder, ()) if source in gone), None)
        if folder not in gone and first is not None:
            gone[folder] = f"it was made from {first}"
    files = [path for path in gone if path not in sources]
    return {path: gone[path] for path in [*files, *reversed(order)] if path in gone}


def _sources(found: Survey) -> dict[Path, list[Path]]:
    """The stores that each was made from, however far back.

    By its place; or, of stores that have none, by the identities that manifests recorded.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    for folder, stage in found.stages.items():
        named[stage.identity].append(folder)
    sources: dict[Path, list[Path]] = {}
    for folder in found.stores:
        place = Place.of(folder)
        before = list(place.before()) if place else []
        stage = found.stages.get(folder)
        recorded = stage.manifest["upstream"].values() if stage else ()
        others = (other for identity in recorded for other in named[identity])
        by_hand = [other for other in others if place is None or Place.of(other) is None]
        sources[folder] = [*(one.folder for one in before), *by_hand]
    return sources


def remove(path: Path, root: Path) -> None:
    """Remove a store, or work under way, below a folder.

    Raises:
        UserError: it is a link or outside the folder, holds what is not of a store, or is being
            written.
    """
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} is a link, or lies behind one: remove it by hand")
    if path.is_file():
        path.unlink()
        return
    if not is_work(path):
        known = {*OWN, *groups} if (groups := _groups(path)) else set()
        inner = sorted(path.iterdir())
        strangers = (f.name for f in inner if f.is_symlink() or f.name not in known)
        if (stranger := next(strangers, None)) is not None:
            raise UserError(f"{path} holds {stranger!r}, which is not of a store: move it away")
    work = path if is_work(path) else path.with_name(f".{path.name}.work")
    if work.is_dir() and held_by_another(work / LOCK):
        raise UserError(f"store {path} is being written by another process: end it first")
    (path / MANIFEST).unlink(missing_ok=True)  # a half of a store is never taken for a whole
    shutil.rmtree(path)


def is_work(path: Path) -> bool:
    """Whether a folder is of a store under way."""
    return path.name.startswith(".") and path.suffix == ".work" and path.is_dir()
