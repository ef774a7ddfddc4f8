"""Weights in a plan: what is missing or wrong is said at once, what was replaced is made again."""

import json

import pytest
import torch
import yaml
from tiny_track import BY_HAND, EDSR, TABLE, write

from puriflow.atomic import sha256
from puriflow.registry import part_of

TARGET = "results/restore/imagenet/none/none/edsr-x2/0-of-1/manifest.json"


def save(file, seed):
    torch.manual_seed(seed)
    network = part_of("restorer", "r", {**EDSR, "weights": None}).build().network
    torch.save(network.state_dict(), file)


@pytest.fixture
def own(empty):
    """The tiny track with weights of the user's own, which no program can fetch."""
    (empty.folder / "mine").mkdir()
    own_zoo = {"one": BY_HAND | {"file": "one.pth"}, "two": BY_HAND | {"file": "two.pth"}}
    (empty.folder / "own.yaml").write_text(yaml.safe_dump(own_zoo))

    def change(config):
        config["zoo"] = {"cache": "cache", "entries": "own.yaml", "folders": ["mine"]}
        config["restorers"]["edsr-x2"] = {"zoo": "one"}

    empty.edit(change)
    return empty


def test_all_that_is_missing_is_said_at_once_while_planning(own):
    def change(config):
        config["networks"]["adm"]["weights"] = "nowhere/adm.safetensors"
        config["restorers"]["other"] = {"zoo": "two"}

    rows = [{"method": "other", "type": "SR", "restorer": "other"}]
    write(own.folder, {"tables/tableother": {**TABLE, "rows": rows}})
    own.edit(change)
    chain = TARGET.replace("restore/", "purify/").replace("edsr-x2/", "edsr-x2/vpsde-t10/")
    for target in (chain, "results/pages/tabletiny.html", "all"):
        said = own.snakemake(target, "--dry-run", check=False)
        assert own.status != 0, target
        (line,) = [line for line in said.splitlines() if "puriflow: error" in line]
        assert "weights file nowhere/adm.safetensors does not exist" in line, target
        assert "one must be fetched by hand: save from me as" in line, target
        assert ("two must be" in line) == (target == "all"), target  # else nothing asks for it


def test_replaced_weights_are_checked_and_what_used_them_is_made_again(own):
    file = own.folder / "mine" / "one.pth"
    save(file, 0)
    own.snakemake(TARGET)
    before = json.loads((own.folder / TARGET).read_text())["weights"]
    save(file, 1)
    own.snakemake(TARGET)
    after = json.loads((own.folder / TARGET).read_text())["weights"]
    assert before.keys() == after.keys() == {"zoo:one"}
    assert before != after
    assert own.planned(TARGET) == {}
    file.write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")
    assert "one.pth is a web page, not a file" in own.snakemake(TARGET, "-n", check=False)
    network = part_of("restorer", "r", {**EDSR, "n_feats": 4, "weights": None}).build().network
    torch.save(network.state_dict(), file)
    assert own.planned(TARGET) == {"fetch_weights": 1, "restore_images": 1}  # which refuses it


def test_a_file_that_is_not_the_published_one_never_runs_unless_the_track_says_so(own):
    file = own.folder / "mine" / "edsr_baseline_x2-1bc95232.pt"
    save(file, 0)
    zoo = {"one": BY_HAND | {"file": file.name}}
    (own.folder / "own.yaml").write_text(yaml.safe_dump(zoo))
    said = own.snakemake(TARGET, "--dry-run", check=False)
    assert own.status != 0
    assert "but zoo entry one says 1bc95232; remove it" in said
    zoo["one"]["sha256"] = sha256(file)
    (own.folder / "own.yaml").write_text(yaml.safe_dump(zoo))
    assert own.planned(TARGET)["restore_images"] == 1
