"""Files that are here are the right ones: by hash, by size, or else by their network."""

import hashlib
import shutil

import pytest
import torch
import yaml
from tiny_track import BY_HAND, EDSR
from typer.testing import CliRunner

from puriflow.checksums import recorded, recorded_hash
from puriflow.cli.zoo import app
from puriflow.config import check_config
from puriflow.errors import UserError
from puriflow.provenance import identified
from puriflow.registry import FAMILIES, part_of
from puriflow.restorers.esrgan import RRDBNet
from puriflow.weight_files import made_from
from puriflow.zoo.catalogue import Zoo
from puriflow.zoo.fetching import check_plan, fetch, state, verify

RRDB = {"scale": 4, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}
CONVERTED = {"file": "own.pth", "part": {"kind": "esrgan", **RRDB}, "convert": "esrgan"}
PAGE = b"<!DOCTYPE html><html>quota exceeded</html>"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder of the user's, and an empty cache."""
    for variable in ("PURIFLOW_CACHE", "PURIFLOW_WEIGHTS", "PURIFLOW_ZOO"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "mine").mkdir()
    return tmp_path


def zoo_of(places, **entries):
    """The zoo with entries of one's own, and the catalogue's beside them."""
    file = places / f"zoo-{len(list(places.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump({name: BY_HAND | own for name, own in entries.items()}))
    cache, folders = str(places / "cache"), (str(places / "mine"),)
    return Zoo(cache=cache, folders=folders, entries=str(file))


def part(zoo):
    """The part of the entry `own`, on a track of this zoo."""
    raw = {"track": "own", **{family.section: {} for family in FAMILIES}}
    raw |= {"restorers": {"r": {"zoo": "own"}}, "zoo": zoo.model_dump(mode="json")}
    return check_config(raw).part("restorer", "r")


def save(file, **changes):
    """An EDSR of random weights; returns the file's sha256."""
    entry = {**EDSR, **changes, "weights": None}
    torch.save(part_of("restorer", "r", entry).build().network.state_dict(), file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def save_older(file, seed):
    """An ESRGAN of random weights with the older keys; returns the file's sha256."""
    torch.manual_seed(seed)
    older = {}
    for key, value in RRDBNet(**RRDB).state_dict().items():
        key = key.replace("conv_body", "trunk_conv").replace("conv_up", "upconv")
        key = key.replace("conv_hr", "HRconv").replace("rdb", "RDB")
        older[key.replace("body.", "RRDB_trunk.")] = value
    torch.save(older, file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def page(file):
    file.write_bytes(PAGE)


def truncated(file):
    save(file)
    file.write_bytes(file.read_bytes()[:-1000])


def of_another_network(file):
    save(file, n_feats=4)


WRONG = {
    page: r"own\.pth is a web page, not a file of weights",
    truncated: r"own\.pth cannot be read safely",
    of_another_network: r"own\.pth does not fit EDSR",
}


@pytest.mark.parametrize("make", WRONG)
def test_a_wrong_file_is_refused_where_no_hash_is_published(places, make):
    zoo = zoo_of(places, own={"file": "own.pth"})
    make(places / "mine" / "own.pth")
    for act in (fetch, verify, state):
        with pytest.raises(UserError, match=WRONG[make]):
            act(zoo, "own")
    save(places / "mine" / "own.pth")
    assert fetch(zoo, "own") == places / "mine" / "own.pth"
    assert verify(zoo, "own").endswith("own.pth: its network right")
    assert state(zoo, "own") == "yes"


def test_the_list_names_what_it_refuses(places, monkeypatch):
    zoo = zoo_of(places, own={"file": "own.pth"}, other={"file": "other.pth"})
    monkeypatch.setenv("PURIFLOW_ZOO", zoo.entries)
    monkeypatch.setenv("PURIFLOW_WEIGHTS", str(places / "mine"))
    monkeypatch.chdir(places)  # where no configuration is
    save(places / "mine" / "own.pth")
    page(places / "mine" / "other.pth")
    ended = CliRunner().invoke(app, ["list"])
    here = {words[0]: words[-1] for line in ended.stdout.splitlines() if (words := line.split())}
    assert (here["own"], here["other"], here["resnet50"]) == ("yes", "refused", "no")
    assert "other.pth is a web page" in str(ended.exception)


def test_verify_reads_anew_what_a_disk_may_have_lost_without_a_new_time(places, monkeypatch):
    file = places / "mine" / "own.pth"
    zoo = zoo_of(places, own={"file": "own.pth", "sha256": save(file)})
    monkeypatch.setenv("PURIFLOW_ZOO", zoo.entries)
    monkeypatch.setenv("PURIFLOW_WEIGHTS", str(places / "mine"))
    monkeypatch.chdir(places)
    monkeypatch.setattr("puriflow.checksums._state", lambda file: [0, 0, 0, 0])
    assert CliRunner().invoke(app, ["verify", "own"]).exit_code == 0
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert "but should be" in str(CliRunner().invoke(app, ["verify", "own"]).exception)


def test_a_wrong_download_is_refused_and_a_conversion_s_source_too(places):
    zoo = zoo_of(
        places, own={"file": "own.pth", "part": {"kind": "esrgan", **RRDB}, "convert": "esrgan"}
    )
    for make in (page, truncated, of_another_network):
        make(places / "mine" / "own.pth")
        for act in (fetch, verify, state):
            with pytest.raises(UserError, match=r"own\.pth"):
                act(zoo, "own")
    assert not zoo.cached("own", "own.safetensors").exists()


def test_names_that_carry_digits_are_checked_by_them(places):
    official = Zoo().known()
    digits = {name: official[name].hashes.get("sha256") for name in official}
    assert digits["edsr-baseline-x2"] == "1bc95232"
    assert digits["edsr-large-x2"] == "0edfb8a3"
    assert digits["mdsr-baseline"] == "a00cab12"
    assert digits["mdsr-large"] == "4a78bedf"
    assert digits["resnet50"] == "0676ba61"
    assert digits["deit-s"] == "cd65a155"
    assert digits["vgg19"].startswith("dcbb9e9d")
    assert digits["edm-cifar10"] is None  # edm-cifar10-32x32-uncond-vp.pkl
    file = places / "mine" / "own-0123abcd.pth"
    digest = save(file)
    zoo = zoo_of(places, own={"file": file.name})
    with pytest.raises(UserError, match="but zoo entry own says 0123abcd; remove it"):
        part(zoo).build()
    for act in (fetch, verify, state):
        with pytest.raises(UserError, match="but should be 0123abcd"):
            act(zoo, "own")
    zoo = zoo_of(places, own={"file": file.name, "sha256": digest})  # which counts more
    part(zoo).build()
    assert verify(zoo, "own").endswith("sha256 right")


def test_a_track_says_other_hashes_of_an_official_file(places):
    official = Zoo().entry("mdsr-baseline")
    file = places / "mine" / official.file
    digest = save(file)
    with pytest.raises(UserError, match="but zoo entry mdsr-baseline says a00cab12"):
        check_plan(zoo_of(places), [zoo_of(places).weights("mdsr-baseline")])
    own = official.model_dump(exclude_none=True) | {"sha256": digest, "part": EDSR}
    zoo = zoo_of(places, **{"mdsr-baseline": own})
    check_plan(zoo, [zoo.weights("mdsr-baseline")])
    assert zoo.weights("mdsr-baseline").identity == digest


def test_a_size_that_is_not_the_published_one_is_refused(places):
    file = places / "mine" / "own.pth"
    save(file)
    size = file.stat().st_size
    part(zoo_of(places, own={"file": "own.pth", "size": size})).build()
    wrong = part(zoo_of(places, own={"file": "own.pth", "size": size + 1}))
    with pytest.raises(UserError, match=f"it has {size} bytes, but zoo entry own says {size + 1}"):
        wrong.build()


def test_another_file_counts_by_its_own_hash(places):
    zoo = zoo_of(places, own={"file": "own.pth"})
    file = places / "mine" / "own.pth"
    assert identified(part(zoo))["weights"] == "own.pth, no hash published"
    first, second = save(file), save(file)
    assert first != second == identified(part(zoo))["weights"]
    # Of a download that is gone, as it was recorded: what was made of it is still right.
    cached = zoo.cached("own", "own.pth")
    cached.parent.mkdir(parents=True)
    shutil.move(file, cached)
    recorded(cached).write_text(second + "\n")
    assert identified(part(zoo))["weights"] == second
    cached.unlink()
    assert identified(part(zoo))["weights"] == second


def test_a_conversion_follows_its_source(places):
    zoo, file = zoo_of(places, own=CONVERTED), places / "mine" / "own.pth"
    digest = save_older(file, 0)
    assert identified(part(zoo))["weights"] == digest  # before it is converted
    assert state(zoo, "own") == "to convert"
    ready = fetch(zoo, "own")
    assert (made_from(ready), state(zoo, "own")) == (digest, "yes")
    before = recorded_hash(ready)
    assert identified(part(zoo))["weights"] == digest
    other = save_older(file, 1)
    assert identified(part(zoo))["weights"] == other
    assert state(zoo, "own") == "to convert"
    for act in (part(zoo).build, lambda: verify(zoo, "own")):
        with pytest.raises(UserError, match=r"own\.safetensors was not made from .*own\.pth"):
            act()
    assert fetch(zoo, "own") == ready
    assert recorded_hash(ready) != before
    part(zoo).build()
    file.unlink()  # what was made of it says what that was
    assert identified(part(zoo))["weights"] == other
    part(zoo).build()
    assert fetch(zoo, "own") == ready
    published = part(zoo_of(places, own={**CONVERTED, "sha256": digest[:8]}))
    with pytest.raises(UserError, match="was made from another file than the published one"):
        published.build()
    assert identified(published)["weights"] == other
    published = part(zoo_of(places, own={**CONVERTED, "sha256": other[:8]}))
    assert identified(published)["weights"] == other[:8]


def test_a_conversion_of_the_user_s_own_is_never_replaced(places):
    zoo, file = zoo_of(places, own=CONVERTED), places / "mine" / "own.pth"
    save_older(file, 0)
    mine = places / "mine" / "own.safetensors"
    shutil.move(fetch(zoo, "own"), mine)
    before = mine.read_bytes()
    part(zoo).build()
    save_older(file, 1)
    with pytest.raises(UserError, match=r"mine/own\.safetensors was not made from .*; remove it"):
        fetch(zoo, "own")
    assert mine.read_bytes() == before


def test_all_that_a_plan_lacks_is_one_line(places):
    zoo = zoo_of(places, a={"file": "a.pth"}, b={"file": "b.pth"}, c={"file": "c.pth"})
    page(places / "mine" / "b.pth")
    page(places / "page.pth")
    names = ("nowhere.pth", str(places / "page.pth"))
    local = [
        f for name in names for f in part_of("restorer", "r", {**EDSR, "weights": name}).files()
    ]
    linked = zoo.weights("resnet50")  # which the workflow fetches
    with pytest.raises(UserError) as caught:
        check_plan(zoo, [*map(zoo.weights, "abc"), *local, linked, *local])
    said = str(caught.value)
    for problem in (
        "a must be fetched by hand",
        "b.pth is a web page",
        "c must be fetched by hand",
        "weights file nowhere.pth does not exist",
        "page.pth is a web page",
    ):
        assert said.count(problem) == 1
    assert "resnet50" not in said
    assert len(said.splitlines()) == 1
    check_plan(zoo, [linked])
