"""Stores that are not what their path says, or were made from others than are there."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from placed import ANOTHER, ATTACKED, CLEAN, OTHER, Made

from puriflow.cli import app
from puriflow.config import load_config
from puriflow.config.track import Compute
from puriflow.errors import UserError
from puriflow.lineage import Place, check_shards
from puriflow.results.measures import Stores
from puriflow.store import open_stage


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, track):
    made = Made(tmp_path_factory.mktemp("whole"), track)
    made.put_all(CLEAN, ATTACKED, OTHER, ANOTHER)
    return made


@pytest.fixture
def made(tmp_path, whole):
    return whole.copied(tmp_path / "results")


def another_stage(made):
    shutil.rmtree(made.place(ATTACKED, "restore"))
    shutil.copytree(made.place(ATTACKED, "attack"), made.place(ATTACKED, "restore"))


def other_labels(made):
    """Which nobody could make, but by hand."""
    made.put(ATTACKED, "classify", first=1)


def put_with(made, **changes):
    """All of a chain, made alike from another draw, or of another data set of that name."""
    dataset = made.track.dataset("cifar10").model_copy(update=changes)
    datasets = {**made.track.datasets, "cifar10": dataset}
    other = Made(made.results, made.track.model_copy(update={"datasets": datasets}))
    for stage in ATTACKED.stages():
        other.put(ATTACKED, stage)


def put_computing(**how):
    """All of a chain by a track that computes otherwise."""

    def put(made):
        track = made.track.model_copy(update={"compute": Compute(**how)})
        for stage in ATTACKED.stages():
            Made(made.results, track).put(ATTACKED, stage)

    return put


def another_seed(made):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("placed.SEED", 1)
        for stage in ("attack", "restore", "classify"):
            made.put(ATTACKED, stage)


REPLACED = {
    "another attack's store": (
        lambda made: made.copy(OTHER, ATTACKED, "attack"),
        "attack/.* was not made by the attack pgd-linf8 of this track",
    ),
    "the same attack's, made again": (
        lambda made: made.put(ATTACKED, "attack", seed=1),
        "restore/.* was made from another store than .*/attack/",
    ),
    "clean logits in the attacked chain's place": (
        lambda made: made.copy(CLEAN, ATTACKED, "classify"),
        "classify/.* was made from another store than .*/restore/",
    ),
    "clean images restored": (
        lambda made: made.copy(CLEAN, ATTACKED, "restore"),
        "restore/.* was made from another store than .*/attack/",
    ),
    "other images": (
        lambda made: made.put(ATTACKED, "images", seed=1),
        "attack/.* was made from another store than .*/images/",
    ),
    "three images beside four logits": (
        lambda made: made.put(ATTACKED, "images", n=3),
        "attack/.* was made from another store than .*/images/",
    ),
    "another classifier's logits": (
        lambda made: made.copy(ANOTHER, ATTACKED, "classify"),
        "classify/.* was not made by the classifier wrn-28-10 of this track",
    ),
    "a store of another stage": (
        another_stage,
        "restore/.* is of the stage attack, and not of restore",
    ),
    "images of another data set": (
        lambda made: put_with(made, sample="imagenet"),
        "images/.* was not made by the dataset cifar10 of this track",
    ),
    "by whatever kernels were the fastest": (
        put_computing(deterministic=False),
        "attack/.* was not made by the attack pgd-linf8 of this track",
    ),
    "another draw of its images": (
        lambda made: put_with(made, subset_seed=1),
        r"images/.* was made with subset_seeds \[1\], and not \[0\]",
    ),
    "another seed": (another_seed, "attack/.* was made with seed 1, and not 0"),
    "other labels": (other_labels, "classify/.* has another label than .*/images/"),
}


@pytest.mark.parametrize("case", REPLACED)
def test_a_store_that_was_replaced_is_refused(made, case):
    change, message = REPLACED[case]
    assert len(made.measure()) == 4
    change(made)
    with pytest.raises(UserError, match=message) as caught:
        made.measure()
    assert "\n" not in str(caught.value)
    assert "run `puriflow repair " in str(caught.value)


def test_weights_tell_parts_apart_and_their_folder_does_not(tmp_path, repository, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {name: Path(name) / "same.safetensors" for name in ("one", "two")}
    restorers = {}
    for name, file in files.items():
        file.parent.mkdir()
        file.write_bytes(name.encode())
        restorers[name] = {"kind": "edsr", "weights": str(file)}
    config = {"extends": str(repository / "config" / "config.yaml"), "restorers": restorers}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    made = Made(tmp_path / "results", load_config("mine.yaml"))
    one, two = (replace(CLEAN, restorer=name) for name in files)
    made.put_all(one, two)
    files["one"].rename("moved.safetensors")
    restorers["one"]["weights"] = "moved.safetensors"
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    track = load_config("mine.yaml")
    assert len(Stores(track, made.results).measure(one)) == 4
    made.copy(two, one, "restore")
    with pytest.raises(UserError, match="was not made by the restorer one of this track"):
        Stores(track, made.results).measure(one)


def test_what_lies_between_the_stores_that_are_read_counts_too(made):
    """A figure reads the images of a chain and what comes out of it, and not the attack."""
    made.put(ATTACKED, "attack", seed=1)
    with pytest.raises(UserError, match=r"restore/.* was made from another store than"):
        Stores(made.track, made.results).shards(ATTACKED, "restore")


def test_what_was_deleted_to_get_room_is_not_missed(made):
    shutil.rmtree(made.place(ATTACKED, "attack"))
    (store,) = Stores(made.track, made.results).shards(ATTACKED, "restore")
    assert store.count == 4


def test_results_may_be_renamed(made, track):
    renamed = made.results.rename(made.results.with_name("old"))
    assert len(Stores(track, renamed).measure(ATTACKED)) == 4


def test_the_same_images_from_another_machine_are_the_same(made, monkeypatch):
    before = open_stage(made.place(ATTACKED, "attack")).identity
    monkeypatch.setattr("placed.MACHINE", {"device": "another"})
    again = made.put(ATTACKED, "attack")
    assert again.manifest["machine"] == {"device": "another"}
    assert again.identity == before
    assert len(made.measure()) == 4


@pytest.mark.parametrize(
    ("first", "seed", "message"),
    [
        (2, 0, None),
        (1, 0, "share an image"),
        (2, 1, "was made otherwise than .*0-of-2"),
    ],
)
def test_shards_are_made_alike_of_other_images(tmp_path, track, monkeypatch, first, seed, message):
    sharded = track.dataset("cifar10").model_copy(update={"shards": 2})
    track = track.model_copy(update={"datasets": {"cifar10": sharded}})
    made = Made(tmp_path, track)
    for start, own_seed, shard in ((0, 0, "0-of-2"), (first, seed, "1-of-2")):
        monkeypatch.setattr("placed.SEED", own_seed)
        for stage in ("images", "restore"):
            made.put(CLEAN, stage, n=2, first=start, shard=shard)
    if message is None:
        stores = Stores(track, tmp_path)
        assert stores.read(CLEAN, "restore", "index").tolist() == [0, 1, 2, 3]
    else:
        with pytest.raises(UserError, match=message):
            check_shards([open_stage(made.place(CLEAN, "restore", f"{i}-of-2")) for i in (0, 1)])


def test_a_stage_reads_no_store_of_another_chain(made, tmp_path, repository, monkeypatch):
    """Nor does it begin to compute."""
    monkeypatch.chdir(repository)
    made.copy(CLEAN, ATTACKED, "restore")
    folder, out = made.place(ATTACKED, "restore"), tmp_path / "out"
    command = ["stage", "classify", str(folder), "--out", str(out), "--classifier", "wrn-28-10"]
    with pytest.raises(UserError, match=r"was made from another store than .*/attack/"):
        app(command, standalone_mode=False)
    assert not out.exists()


def test_a_place_is_known_by_its_path():
    victim = "restore/cifar10/pgd-linf8/mdsr-x2.vpsde-t100.wrn-28-10"
    place = Place.of(made_from := Place.of(_folder(f"{victim}/bicubic/3-of-8")).folder)
    assert made_from == _folder(f"{victim}/bicubic/3-of-8")
    assert place.parts == {"restorer": "bicubic"}
    source = place.source
    assert source.stage == "attack"
    assert source.parts == {
        "attack": "pgd-linf8",
        "restorer": "mdsr-x2",
        "purifier": "vpsde-t100",
        "classifier": "wrn-28-10",
    }
    assert source.source.folder == _folder("images/cifar10/3-of-8")
    assert source.source.numbers == {"shard": 3, "shards": 8}
    assert source.source.source is None
    certified = Place.of(_folder("certify/cifar10/none/edm/none/wrn-28-10/0.25/0-of-1"))
    assert certified.source.folder == _folder("images/cifar10/0-of-1")
    assert certified.numbers == {"sigma": 0.25}
    evaluated = Place.of(_folder("evaluate/cifar10/none/none/none/vpsde-t100/wrn-28-10/9/0-of-1"))
    assert evaluated.source == certified.source
    assert evaluated.numbers == {"n_draws": 9}
    for other in ("my/attack", "images/cifar10", "images/cifar10/extra/0-of-1", "images/a/0-of-x"):
        assert Place.of(_folder(other)) is None


def _folder(path):
    return Path("/somewhere/results") / path
