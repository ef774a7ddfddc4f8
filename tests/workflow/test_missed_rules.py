"""Whatever is deleted, damaged or replaced is made again for who asks for what was made of it."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from puriflow.atomic import sha256
from puriflow.chain import Chain
from puriflow.datasets.folder import wnids
from puriflow.store import MANIFEST, open_stage

ATTACKED = Chain("imagenet", "pgd-linf4", "resnet50", "edsr-x2", "vpsde-t10", "resnet50")
CLEAN = "results/restore/imagenet/none/none/wavelet/0-of-1/manifest.json"
RULES = {
    "images": "store_images",
    "attack": "attack_images",
    "restore": "restore_images",
    "purify": "purify_images",
    "classify": "classify_images",
}


def stages(planned):
    """The stages of the chain that a plan has."""
    return {stage for stage, rule in RULES.items() if rule in planned}


@pytest.mark.parametrize(
    ("stage", "target", "again"),
    [
        ("images", "results/tabletiny.csv", set(RULES)),
        ("attack", "results/tabletiny.csv", {"attack", "restore", "purify", "classify"}),
        ("restore", "results/tabletiny.csv", {"restore", "purify", "classify"}),
        ("purify", "results/tabletiny.csv", {"purify", "classify"}),
        ("classify", "results/tabletiny.csv", {"classify"}),
        ("images", "results/figuretiny.csv", {"images", "attack", "restore"}),
        ("attack", "results/summary.md", {"attack", "restore", "purify", "classify"}),
    ],
)
def test_a_stage_that_was_deleted_is_made_again_with_what_follows(
    built, tmp_path, stage, target, again
):
    gone = built.folder / "results" / stage
    shutil.move(gone, tmp_path)
    try:
        planned = built.planned(target)
    finally:
        shutil.move(tmp_path / stage, gone)
    assert stages(planned) == again
    assert ("build_figure" if "figure" in target else "build_table") in planned


def test_what_was_put_back_is_not_made_again(built, tmp_path):
    attack = built.folder / "results" / ATTACKED.folder("attack", "0-of-1") / MANIFEST
    shutil.move(attack, tmp_path)
    assert "attack_images" in built.planned("all")
    shutil.move(tmp_path / MANIFEST, attack)
    assert built.planned("all") == {}


def test_a_job_on_a_cluster_leaves_the_marks_of_the_plan(built, tmp_path):
    """It reads the Snakefile again, when what was missed is there for the most part."""
    attack = built.folder / "results" / ATTACKED.folder("attack", "0-of-1") / MANIFEST
    mark = built.folder / ".snakemake/puriflow/missed/results/tabletiny.csv"
    shutil.move(attack, tmp_path)
    built.planned("results/tabletiny.csv")
    shutil.move(tmp_path / MANIFEST, attack)
    before = mark.read_text(), mark.stat().st_mtime_ns
    built.snakemake("results/tabletiny.csv", "--mode", "remote", "--dry-run")
    assert (mark.read_text(), mark.stat().st_mtime_ns) == before
    assert built.planned("all") == {}


def test_what_is_made_again_is_the_same_on_any_number_of_threads(built):
    """Twice, since a mark that Snakemake knows by then must be new to it again."""
    root = built.folder / "results"
    before = {file: sha256(file) for file in root.rglob(MANIFEST)}
    for stage, count in (("classify", 2), ("classify", 3), ("purify", 2)):
        shutil.rmtree(root / ATTACKED.folder(stage, "0-of-1"))
        options = (f"--set-threads={rule}={count}" for rule in RULES.values())
        built.snakemake("results/tabletiny.csv", *options)
        assert {file: sha256(file) for file in root.rglob(MANIFEST)} == before
    built.snakemake("all")
    assert built.planned("all") == {}


def test_without_what_snakemake_remembers_a_deleted_stage_is_missed_too(built, tmp_path):
    memory, gone = built.folder / ".snakemake", built.folder / "results" / "purify"
    shutil.move(memory, tmp_path)
    shutil.move(gone, tmp_path)
    try:
        assert stages(built.planned("results/tabletiny.csv")) == {"purify", "classify"}
    finally:
        shutil.rmtree(memory)
        shutil.move(tmp_path / ".snakemake", memory)
        shutil.move(tmp_path / "purify", gone)


@pytest.fixture
def own(empty):
    """A track of images of its own, of which two stages are made."""
    for label in range(4):
        folder = empty.folder / "data" / wnids()[label]
        folder.mkdir(parents=True)
        picture(folder / "0.bmp", label)
    entry = {"kind": "folder", "root": "data", "resize": None, "crop": None}
    empty.edit(lambda config: config["datasets"].update(imagenet=entry))
    empty.snakemake(CLEAN)
    assert empty.planned(CLEAN) == {}
    return empty


def picture(file, value):
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file)


def test_data_that_changed_is_stored_and_computed_again(own):
    both = {"store_images": 1, "restore_images": 1}
    file, store = own.folder / "data" / wnids()[1] / "0.bmp", own.folder / "results/images/imagenet"
    before = file.stat()
    picture(file, 200)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert own.planned(CLEAN) == both
    own.snakemake(CLEAN)
    images = open_stage(store / "0-of-1").read("images")
    assert np.allclose(images.mean(axis=(1, 2, 3)) * 255, [0, 200, 2, 3])
    shutil.copytree(store, own.folder / "whole")
    (store / "0-of-1" / MANIFEST).write_text("{}")
    assert own.planned(CLEAN) == both
    shutil.copy2(own.folder / "whole" / "0-of-1" / MANIFEST, store / "0-of-1")
    shutil.rmtree(store / "0-of-1" / "images.zarr")
    assert own.planned(CLEAN) == both
    shutil.copytree(own.folder / "whole", store, dirs_exist_ok=True)
    (own.folder / "data").rename(own.folder / "elsewhere")
    assert own.planned(CLEAN) == {}  # data that is not here has not changed
