"""The catalogue: its entries, where files are looked for, and the commands on them."""

import hashlib
import http.server
import os
import subprocess
import threading
from functools import partial

import pytest
import torch
import yaml

from puriflow.config import check_config, load_config
from puriflow.errors import UserError
from puriflow.provenance import identified, weights_hashes
from puriflow.registry import FAMILIES, check, family_named
from puriflow.restorers.edsr import EDSR
from puriflow.zoo.catalogue import OFFICIAL, Zoo
from puriflow.zoo.weights import save_weights


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A cache and a folder of the user's, both empty."""
    monkeypatch.setenv("PURIFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PURIFLOW_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    return tmp_path


def track_with(role=None, name="x", entry=None, **zoo):
    """A track that has nothing but one part and a `zoo` section."""
    raw = {"track": "own", "zoo": zoo, **{family.section: {} for family in FAMILIES}}
    if role is not None:
        raw[role] = {name: entry}
    return check_config(raw)


def test_every_entry_builds_a_known_part():
    for name, entry in Zoo().known().items():
        role = family_named(entry.family).roles[0]
        check(role, name, {**entry.part, "weights": f"zoo:{name}"})


def test_every_role_of_the_paper_track_has_an_entry(repository):
    raw = yaml.safe_load((repository / "config" / "paper.yaml").read_text())
    config = load_config(repository / "config" / "paper.yaml")
    for section in ("classifiers", "networks", "features"):
        for name, entry in raw[section].items():
            assert config.zoo.entry(entry["zoo"]).family == section
            part = config.part(family_named(section).roles[0], name)
            assert part.weights.name == f"zoo:{entry['zoo']}"
            assert part.weights.published == config.zoo.entry(entry["zoo"]).identity


def test_published_facts_are_there():
    adm = Zoo().entry("guided-diffusion-256")
    assert adm.size == 2_211_383_297
    assert adm.md5 == "fd9dd2335b8736d521de0aed54bd90ca"
    resnet50 = Zoo().entry("resnet50")
    assert resnet50.file.endswith(f"{resnet50.sha256}.pth")
    for entry in Zoo().known().values():
        assert entry.licence
        assert entry.source
        assert entry.input


def test_a_file_of_the_user_comes_first(places):
    zoo, name, file = Zoo(), "real-esrgan-x2", "RealESRGAN_x2.pth"
    assert zoo.find(name, file) is None
    cached = places / "cache" / name / file
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert zoo.find(name, file) == cached
    (places / "mine" / file).touch()
    assert zoo.find(name, file) == places / "mine" / file


def test_weights_that_are_not_here_say_how_to_get_them(places):
    part = track_with("restorers", "esrgan-x2", {"zoo": "real-esrgan-x2"}).part(
        "restorer", "esrgan-x2"
    )
    with pytest.raises(UserError, match="puriflow zoo fetch real-esrgan-x2"):
        part.build()


def test_a_second_track_has_its_own_places(tmp_path, monkeypatch):
    for variable in ("PURIFLOW_CACHE", "PURIFLOW_WEIGHTS", "PURIFLOW_ZOO"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "RealESRGAN_x2.pth").touch()
    places = [{"cache": str(tmp_path / "a")}, {"folders": [str(tmp_path / "mine")]}]
    tracks = [track_with("restorers", "sr", {"zoo": "real-esrgan-x2"}, **zoo) for zoo in places]
    files = [track.part("restorer", "sr").weights.file for track in tracks]
    cached = tmp_path / "a" / "real-esrgan-x2" / "RealESRGAN_x2.pth"
    assert files == [cached, tmp_path / "mine" / "RealESRGAN_x2.pth"]


def test_the_identity_of_weights_does_not_change_by_fetching_them(places):
    def part():
        return track_with("classifiers", "c", {"zoo": "resnet50"}).part("classifier", "c")

    before = identified(part())
    assert weights_hashes([part()]) == {}
    (places / "mine" / "resnet50-0676ba61.pth").write_bytes(b"anything")
    assert identified(part()) == before
    assert before["weights"] == "0676ba61"
    assert weights_hashes([part()]) == {"zoo:resnet50": hashlib.sha256(b"anything").hexdigest()}


def test_a_file_of_the_user_that_is_another_one_is_named(places):
    file = places / "mine" / "resnet50-0676ba61.pth"
    file.write_bytes(b"anything")
    ended = puriflow("zoo", "fetch", "resnet50", cwd=places)
    assert ended.returncode == 2
    assert "but should be 0676ba61" in ended.stderr
    assert file.exists()


def puriflow(*arguments, cwd, **variables):
    return subprocess.run(
        ["puriflow", *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def own_zoo(places):
    """An entry of the user's own, served on this machine: a tiny EDSR as a .pth file."""
    served = places / "served"
    served.mkdir()
    torch.manual_seed(0)
    network = EDSR(n_feats=8, n_resblocks=1, scale=2)
    torch.save({"model": network.state_dict()}, served / "tiny.pth")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=served)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    described = {
        "family": "restorers",
        "part": {"kind": "edsr", "n_feats": 8, "n_resblocks": 1},
        "file": "tiny.pth",
        "url": f"http://127.0.0.1:{server.server_port}/tiny.pth",
        "sha256": hashlib.sha256((served / "tiny.pth").read_bytes()).hexdigest(),
        "licence": "MIT",
        "input": "[0, 1]",
        "source": "tests",
    }
    (places / "zoo.yaml").write_text(yaml.safe_dump({"tiny-edsr": described}))
    yield {"PURIFLOW_ZOO": str(places / "zoo.yaml")}, network
    server.shutdown()


def test_an_entry_of_ones_own_is_listed_fetched_verified_and_loaded(own_zoo, places, monkeypatch):
    variables, network = own_zoo
    listed = puriflow("zoo", "list", cwd=places, **variables).stdout
    assert "tiny-edsr" in listed
    assert "guided-diffusion-256" in listed
    fetched = puriflow("zoo", "fetch", "tiny-edsr", cwd=places, **variables)
    assert fetched.returncode == 0, fetched.stderr
    assert (
        "the sha256 of the download right"
        in puriflow("zoo", "verify", cwd=places, **variables).stdout
    )
    where = puriflow("zoo", "path", "tiny-edsr", cwd=places, **variables).stdout.strip()
    assert where == str(places / "cache" / "tiny-edsr" / "tiny.pth")
    monkeypatch.setenv("PURIFLOW_ZOO", variables["PURIFLOW_ZOO"])
    track = track_with("restorers", "edsr", {"zoo": "tiny-edsr"})
    loaded = track.part("restorer", "edsr").build().network
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    with open(where, "ab") as file:
        file.write(b"!")
    damaged = puriflow("zoo", "verify", "tiny-edsr", cwd=places, **variables)
    assert damaged.returncode == 2
    assert "but should be" in damaged.stderr


def test_the_configuration_says_where_the_cache_is(own_zoo, places):
    variables, _ = own_zoo
    (places / "config").mkdir()
    raw = {"track": "own", "zoo": {"cache": "here"}, **{f.section: {} for f in FAMILIES}}
    (places / "config" / "config.yaml").write_text(yaml.safe_dump(raw))
    command = ["puriflow", "zoo", "fetch", "tiny-edsr"]
    environment = {k: v for k, v in os.environ.items() if k != "PURIFLOW_CACHE"}
    subprocess.run(command, cwd=places, env={**environment, **variables}, check=True)
    assert (places / "here" / "tiny-edsr" / "tiny.pth").is_file()


def test_one_failure_does_not_stop_the_others(own_zoo, places):
    variables, _ = own_zoo
    ended = puriflow("zoo", "fetch", "wrn-28-10", "tiny-edsr", cwd=places, **variables)
    assert ended.returncode == 2
    assert "by hand" in ended.stderr
    assert (places / "cache" / "tiny-edsr" / "tiny.pth").is_file()


def test_mistakes_are_one_line(places):
    for arguments, message in [
        (("fetch", "resnet5"), "did you mean 'resnet50'"),
        (("fetch", "wrn-28-10"), "must be fetched by hand: save https://drive.google.com"),
        (("verify", "resnet50"), "puriflow zoo fetch resnet50"),
        (("convert", "resnet50"), "needs no conversion"),
        (("convert", "edm-cifar10"), "puriflow zoo fetch edm-cifar10"),
    ]:
        ended = puriflow("zoo", *arguments, cwd=places)
        assert ended.returncode == 2
        assert message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "own.yaml"),
        ("a: {family: restorers}", r"own\.yaml: a\.part: Field required"),
        ("my_net: {}", r"own\.yaml: my_net: String should match"),
        ("3", r"own\.yaml: the file: Input should be a valid dict"),
    ],
)
def test_a_broken_zoo_file_is_named(places, monkeypatch, text, message):
    (places / "own.yaml").write_text(text)
    monkeypatch.setenv("PURIFLOW_ZOO", str(places / "own.yaml"))
    with pytest.raises(UserError, match=message):
        Zoo().known()


def test_listing_imports_no_torch(repository):
    code = (
        "import sys; sys.argv = ['puriflow', 'zoo', 'list']\n"
        "from puriflow.cli import app\n"
        "app(standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run(["python", "-c", code], cwd=repository, capture_output=True, text=True)
    assert (ended.returncode, "guided-diffusion-256" in ended.stdout) == (0, True), ended.stderr


def test_half_precision_halves_the_file(tmp_path):
    network = EDSR(n_feats=8, n_resblocks=1, scale=2)
    save_weights(network, tmp_path / "whole.safetensors")
    save_weights(network, tmp_path / "half.safetensors", half=True)
    whole, half = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("whole", "half"))
    assert half < 0.75 * whole


def test_the_catalogue_is_part_of_the_package():
    assert OFFICIAL.is_file()
