"""`puriflow verify` and `repair`: what they find, what they remove, and what they leave alone."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from placed import ANOTHER, ATTACKED, CLEAN, OTHER, SHARD, Made, put
from typer.testing import CliRunner

from puriflow.atomic import lock, write_sealed
from puriflow.cli import app
from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.lineage import Place
from puriflow.registry import Weights, part_of
from puriflow.stages.images import write_images
from puriflow.store import MANIFEST, open_stage
from puriflow.upkeep import is_store

STORES = 10  # of the four chains
WHOLE = f"results: {STORES} stores, 0 under way, 0 weights: nothing wrong"
IMAGES = f"images/cifar10/{SHARD}"
SHA = "6db7d803e74f1ffa7d8f5adc0bf95b3e15bf4c8373fffadf546227cc6c6742cb"  # of b"before"
CLEAN_RESTORED = f"restore/cifar10/none/none/mdsr-x2/{SHARD}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, repository):
    track = load_config(repository / "config" / "config.yaml")
    made = Made(tmp_path_factory.mktemp("whole"), track)
    made.put_all(CLEAN, ATTACKED, OTHER, ANOTHER)
    assert len(stores(made.results)) == STORES
    return made


@pytest.fixture
def made(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return whole.copied(Path("results"))


def call(*arguments):
    """Exit status and lines of a command."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output.splitlines()


def stores(results):
    """Folders of stores below the results."""
    return {file.parent.relative_to(results).as_posix() for file in results.rglob(MANIFEST)}


def below(made, *folders):
    """All stores that were made from those of some folders, and these."""
    listed = [made.results / folder for folder in folders]
    found = set()
    for folder in stores(made.results):
        place = Place.of(made.results / folder)
        if not {place.folder, *(before.folder for before in place.before())}.isdisjoint(listed):
            found.add(folder)
    return found


def flip(file, at=-9):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def data_file(made, folder):
    group = open_stage(made.results / folder).store
    return next(f for f in sorted((group / "images" / "c").rglob("*")) if f.is_file())


def swap_stage(made):
    shutil.rmtree(made.results / CLEAN_RESTORED)
    shutil.copytree(made.results / IMAGES, made.results / CLEAN_RESTORED)


BROKEN = {
    "a flipped bit": (lambda m: flip(data_file(m, CLEAN_RESTORED)), "was damaged"),
    "a file that is missing": (lambda m: data_file(m, CLEAN_RESTORED).unlink(), "is missing"),
    "a file that was added": (
        lambda m: (m.results / CLEAN_RESTORED / "images.zarr" / "more").write_text("x"),
        "is not of this store",
    ),
    "an edited manifest": (
        lambda m: flip(m.results / CLEAN_RESTORED / MANIFEST, -3),
        "manifest.json",
    ),
    "no manifest": (
        lambda m: (m.results / CLEAN_RESTORED / MANIFEST).unlink(),
        "has no manifest: it was not finished",
    ),
    "another chain's store": (
        lambda m: m.copy(ATTACKED, CLEAN, "restore"),
        "was made from another store than results/images/",
    ),
    "another stage's store": (swap_stage, "is of the stage images, and not of restore"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_goes_with_what_was_made_from_it(made, case):
    change, message = BROKEN[case]
    assert call("verify") == (0, [WHOLE])
    gone = below(made, CLEAN_RESTORED)
    assert len(gone) == 2
    before = stores(made.results)
    change(made)
    status, lines = call("verify")
    assert status == 1
    assert lines[-1].endswith("wrong")
    assert any(message in line and CLEAN_RESTORED in line for line in lines[:-1])
    status, lines = call("repair", "--dry-run")
    assert len(lines) == 2
    assert all(line.startswith("would be removed results/") for line in lines)
    assert (made.results / CLEAN_RESTORED).is_dir()
    status, lines = call("repair")
    assert (status, len(lines)) == (0, 2)
    assert any(CLEAN_RESTORED in line and message in line for line in lines)
    assert sum(f"it was made from results/{CLEAN_RESTORED}" in line for line in lines) == 1
    assert stores(made.results) == before - gone
    assert call("verify")[0] == 0


def test_what_was_made_from_a_store_that_was_replaced_goes(made):
    before, gone = stores(made.results), below(made, f"restore/{_attacked()}/mdsr-x2/{SHARD}")
    made.put(ATTACKED, "attack", seed=1)
    status, lines = call("verify")
    assert status == 1
    assert lines[0].startswith(f"store results/restore/{_attacked()}/mdsr-x2/{SHARD} was made from")
    assert call("repair")[0] == 0
    assert stores(made.results) == before - gone


def _attacked():
    return "cifar10/pgd-linf8/wrn-28-10"


def test_shards_that_share_images_go_both(made):
    made.put(CLEAN, "images", n=2, shard="0-of-2")
    made.put(CLEAN, "images", n=2, first=1, shard="1-of-2")
    status, lines = call("verify")
    assert status == 1
    assert all("share an image" in line for line in lines[:2])
    assert len(call("repair")[1]) == 2
    assert call("verify")[0] == 0


def test_what_is_asked_for_goes_though_it_be_whole(made):
    before = stores(made.results)
    gone = below(made, f"attack/{_attacked()}/{SHARD}")
    manifest = made.results / "attack" / _attacked() / SHARD / MANIFEST
    status, lines = call("repair", manifest)
    assert status == 0
    assert lines[-1] == f"removed {manifest.parent}: it is asked for"
    assert stores(made.results) == before - gone
    assert call("repair", made.results / IMAGES)[0] == 0
    assert stores(made.results) == set()


def test_stores_without_a_place_are_followed_by_identity(made):
    for source, own in ((IMAGES, "my/clean"), (f"attack/{_attacked()}/{SHARD}", "my/attack")):
        shutil.copytree(made.results / source, own)
    shutil.copytree(made.results / IMAGES, "my/other")
    assert call("verify", "my")[0] == 0
    flip(Path("my/clean/images.zarr/label/c/0"))
    assert call("verify", "my")[0] == 1
    _, lines = call("repair", "my/clean")
    assert [line.split(":")[0] for line in lines] == ["removed my/attack", "removed my/clean"]
    assert os.listdir("my") == ["other"]


def work_of(made):
    """The folder of a store under way."""
    work = made.results / "restore/cifar10/none/none/bicubic-x2/.0-of-1.work" / ("0" * 16)
    work.mkdir(parents=True)
    return work


def test_work_under_way_is_held_against_its_seals(made):
    work, training = work_of(made), made.results / "training" / "restorers"
    training.mkdir(parents=True)
    whole, broken = work / "00000000-00000004.batch", work / "00000004-00000008.batch"
    checkpoint = training / "edsr-x2.checkpoint"
    for file in (whole, broken, work / "attack.pt", checkpoint):
        write_sealed(file, b"what was done")
    assert call("verify") == (0, [WHOLE.replace("0 under", "2 under")])
    for file in (broken, work / "attack.pt", checkpoint):
        flip(file, 0)
    status, lines = call("verify")
    assert (status, len(lines)) == (1, 4)
    assert f"{broken} was damaged, and nothing can go on from it" in lines
    assert len(call("repair")[1]) == 3
    assert whole.is_file()
    assert not any(file.exists() for file in (broken, work / "attack.pt", checkpoint))
    assert call("verify")[0] == 0
    assert call("repair", work.parent)[0] == 0  # a run that was given up
    assert not work.parent.exists()


def test_a_store_under_way_is_not_broken(made):
    folder = made.results / CLEAN_RESTORED
    (folder / MANIFEST).unlink()
    folder.with_name(f".{folder.name}.work").mkdir()
    status, lines = call("verify")
    assert (status, lines[-1].split(":")[1]) == (0, f" {STORES - 1} stores, 1 under way, 0 weights")


def test_weights_that_changed_are_said_and_left(made, monkeypatch):
    weights = Path("mine.safetensors")
    weights.write_bytes(b"before")
    mine = [Weights(str(weights), weights)]
    monkeypatch.setattr("puriflow.cli.upkeep._known", lambda config: (mine, {}))
    monkeypatch.setattr("placed.weights_hashes", lambda _: {str(weights): SHA})
    labels = np.arange(4)
    arrays = {"images": np.zeros((4, 3, 8, 8), np.float32)}
    folder = f"restore/cifar10/none/none/bicubic-x2/{SHARD}"
    put(made.results, folder, made.track, arrays, labels=labels, indices=labels)
    assert call("verify")[0] == 0
    weights.write_bytes(b"after")
    said = (
        f"weights mine.safetensors have changed since 1 stores loaded them, first results/{folder}"
    )
    assert call("verify")[1][0] == said
    status, lines = call("repair")
    assert (status, lines) == (1, [f"left {said}"])
    assert weights.read_bytes() == b"after"
    assert (made.results / folder).is_dir()
    weights.write_bytes(b"before")
    Path("SHA256SUMS").write_text(f"{'0' * 64}  mine.safetensors\n")
    assert call("verify")[1][0].startswith("weights file mine.safetensors is not what it was")


def test_images_that_were_stored_from_other_files_are_broken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, store = Path("data/n01440764/a.png"), Path("results/images/own") / SHARD
    file.parent.mkdir(parents=True)
    Image.new("RGB", (300, 300)).save(file)
    dataset = part_of("dataset", "own", {"kind": "folder", "root": "data"})
    write_images(store, dataset)
    monkeypatch.setattr("puriflow.cli.upkeep._known", lambda config: ([], {"own": dataset}))
    assert call("verify")[0] == 0
    Image.new("RGB", (300, 300), (1, 2, 3)).save(file)
    status, lines = call("verify")
    said = f"store {store} was made from other files than data set own has now"
    assert (status, lines[0].partition(";")[0]) == (1, said)
    assert call("repair")[0] == 0
    assert not store.exists()
    write_images(store, dataset)
    file.unlink()
    assert call("verify")[0] == 0  # what is not there has not changed


def test_nothing_of_others_is_removed(made, tmp_path):
    """Neither beside a store, nor in a folder that only looks like one, nor behind a link."""
    folder = made.results / CLEAN_RESTORED
    flip(data_file(made, CLEAN_RESTORED))
    (folder / "notes.txt").write_text("mine")
    status, lines = call("repair")
    assert status == 1
    assert lines[-1].startswith(f"left {folder} holds 'notes.txt', which is not of a store")
    assert (folder / "images.zarr").is_dir()
    foreign = made.results / "mine"
    (foreign / "data.zarr").mkdir(parents=True)
    (foreign / "data.zarr" / "zarr.json").write_text("{}")
    (foreign / MANIFEST).write_text(json.dumps({"schema": 2}))
    assert not any("mine" in line for line in call("verify")[1] if "notes" not in line)
    assert call("repair", foreign) == (0, [])
    assert (foreign / MANIFEST).is_file()
    places = [made.results / "images" / name / SHARD for name in ("mine", "others")]
    for place, file in zip(places, ("data.zarr/zarr.json", MANIFEST), strict=True):
        (place / file).parent.mkdir(parents=True)
        (place / file).write_text('{"name": "mine"}')
    store = made.results / IMAGES  # a whole one, that is asked for
    (store / "mine.zarr").mkdir()
    status, lines = call("repair", *places, store)
    assert status == 1
    for place, name in zip((*places, store), ("data.zarr", MANIFEST, "mine.zarr"), strict=True):
        assert f"left {place} holds {name!r}, which is not of a store: move it away" in lines
        assert (place / name).exists()
    (store / "mine.zarr").rmdir()
    elsewhere = tmp_path / "elsewhere"
    shutil.move(made.results / "images", elsewhere)
    (made.results / "images").symlink_to(elsewhere)
    status, lines = call("repair", made.results / IMAGES)
    assert status == 1
    assert any("lies behind one: remove it by hand" in line for line in lines)
    assert (elsewhere / "cifar10" / SHARD / MANIFEST).is_file()
    with pytest.raises(UserError, match="is a link"):
        call("repair", made.results / "images")


def test_a_store_that_is_being_written_stays(made):
    flip(data_file(made, CLEAN_RESTORED))
    folder = made.results / CLEAN_RESTORED
    with lock(folder.with_name(f".{folder.name}.work") / "lock", wait=False):
        status, lines = call("repair")
    assert status == 1
    assert f"{folder} is being written by another process" in lines[-1]
    assert folder.is_dir()


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_folder_that_is_not_there_is_one_line(tmp_path, command):
    with pytest.raises(UserError, match=r"folder .*nowhere does not exist"):
        call(command, tmp_path / "nowhere")


def test_the_root_of_all_folders_is_no_store():
    assert not is_store(Path("/"))
