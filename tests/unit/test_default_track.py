"""Where a track is found, and the files that it names: here, beside it, and in PuriFlow itself."""

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import puriflow
from puriflow.auditing.audit import named
from puriflow.cli import app
from puriflow.config import check_config, default_track, load_config, read_track, write_config
from puriflow.errors import UserError
from puriflow.provenance import identified
from puriflow.results import find, results_folder
from puriflow.shipped import shipped

MINE = {"kind": "edsr", "n_feats": 8, "n_resblocks": 1, "weights": "nets/own.safetensors"}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write(file: Path, what: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(what if isinstance(what, str) else yaml.safe_dump(what))
    return file


def weights(track, name="mine") -> Path:
    return track.part("restorer", name).weights.file


def test_the_default_track_is_that_of_the_folder_or_the_shipped_one(here, repository):
    assert default_track() == shipped("config/config.yaml") == repository / "config/config.yaml"
    assert load_config().track == "mini"
    write(here / "config" / "config.yaml", {"extends": "config/config.yaml", "track": "own"})
    assert default_track() == Path("config/config.yaml")
    assert (load_config().track, read_track([])["track"]) == ("own", "own")


def test_a_track_extends_what_is_here_then_beside_it_then_what_is_shipped(here, tmp_path):
    mine = write(tmp_path / "far" / "config" / "mine.yaml", {"extends": "config/config.yaml"})
    assert load_config(mine).track == "mini"
    for file, track in (
        (tmp_path / "far" / "config" / "config.yaml", "above"),
        (tmp_path / "far" / "config" / "config" / "config.yaml", "beside"),
        (here / "config" / "config.yaml", "here"),
    ):
        write(file, {"extends": str(shipped("config/config.yaml")), "track": track})
        assert load_config(mine).track == track


def test_weights_are_found_here_then_beside_the_track_then_among_the_shipped(here, tmp_path):
    raw = {"extends": "config/config.yaml", "restorers": {"mine": MINE}}
    file = write(tmp_path / "far" / "config" / "mine.yaml", raw)
    assert weights(load_config(file)) == Path(MINE["weights"])  # which is nowhere
    assert weights(load_config(file), "edsr-x2") == shipped("resources/edsr-x2.safetensors")
    for folder in (tmp_path / "far", tmp_path / "far" / "config"):
        own = write(folder / MINE["weights"], "")
        assert weights(load_config(file)) == own
    over = write(tmp_path / "over.yaml", {"extends": str(file), "seed": 1})
    assert weights(load_config(over)) == own  # beside the file that names them
    write(here / MINE["weights"], "")
    assert weights(load_config(file)) == Path(MINE["weights"])


def test_the_one_file_of_a_run_says_where_weights_are(here, tmp_path):
    raw = {"extends": "config/config.yaml", "restorers": {"mine": MINE}}
    file = write(tmp_path / "far" / "config" / "mine.yaml", raw)
    own = write(tmp_path / "far" / MINE["weights"], "")
    merged = write_config(read_track([file], ["seed=3"]), Path(".snakemake/puriflow"))
    track = load_config(merged)
    assert (track.seed, weights(track)) == (3, own)
    assert weights(track, "edsr-x2") == shipped("resources/edsr-x2.safetensors")


def test_where_weights_are_is_not_on_record(here, repository, monkeypatch):
    names = ("edsr-x2", "esrgan-x2")
    parts = [load_config().part("restorer", name) for name in names]
    elsewhere = [(part.entry(), identified(part)) for part in parts]
    monkeypatch.chdir(repository)
    parts = [load_config().part("restorer", name) for name in names]
    assert all(not part.weights.file.is_absolute() for part in parts)
    assert [(part.entry(), identified(part)) for part in parts] == elsewhere


def test_a_command_says_that_it_takes_the_shipped_track(here):
    command = ["stage", "images", "cifar10", "--subset", "1", "--out"]
    said = CliRunner().invoke(app, [*command, "one"]).output
    assert f"no config/config.yaml is here, so the track is PuriFlow's own: {shipped('')}" in said
    write(here / "config" / "config.yaml", {"extends": "config/config.yaml"})
    assert "PuriFlow's" not in CliRunner().invoke(app, [*command, "two"]).output
    assert {"one", "two"} <= {*os.listdir(here)}


def test_python_needs_no_track_here(here, small_images):
    purified = puriflow.purify(small_images, restorer="bicubic-x2")
    assert purified.shape == small_images.shape
    assert named("pgd-linf8").n_iter == 40


def test_results_are_those_of_the_folder_or_the_shipped_ones(here, tmp_path):
    own = {"extends": "config/config.yaml", "track": "own"}
    write(here / "config" / "config.yaml", own)  # a track alone leaves the tables
    assert results_folder() == shipped("config")
    assert find("table7", results_folder()) == shipped("config/tables/table7.yaml")
    write(here / "config" / "tables" / "t.yaml", {})
    assert results_folder() == Path("config")
    assert results_folder(tmp_path / "far") == Path("config")
    write(tmp_path / "far" / "sweeps" / "s.yaml", {})
    assert results_folder(tmp_path / "far") == tmp_path / "far"


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 5000, 5, None, ["a"]])
def test_weights_that_are_no_name_of_a_file_are_one_line(here, value):
    raw = {"extends": "config/config.yaml", "restorers": {"mine": {**MINE, "weights": value}}}
    with pytest.raises(UserError, match=r"config restorers\.mine.*weights is"):
        check_config(raw)
