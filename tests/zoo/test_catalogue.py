"""The catalogue: its entries, where files are looked for, and the commands on them."""

import errno
import hashlib
import http.server
import os
import string
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
            if "unavailable" in entry:  # of which nobody knows a file
                continue
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


def test_the_identity_of_weights_does_not_change_by_fetching_them(places, monkeypatch):
    def part():
        return track_with("classifiers", "c", {"zoo": "resnet50"}).part("classifier", "c")

    before = identified(part())
    assert weights_hashes([part()]) == {}
    assert before["weights"] == "0676ba61"
    digest = hashlib.sha256(b"anything").hexdigest()
    (places / "mine" / "resnet50-0676ba61.pth").write_bytes(b"anything")
    assert identified(part())["weights"] == digest  # of a file that is not the published one
    assert weights_hashes([part()]) == {"zoo:resnet50": digest}
    zoo = zoo_with(places, monkeypatch, file="w.pth", sha256=digest[:8])
    assert zoo.weights("x").identity == digest[:8]
    (places / "mine" / "w.pth").write_bytes(b"anything")
    assert zoo.weights("x").identity == digest[:8]


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


ENTRY = {
    "family": "restorers",
    "part": {"kind": "edsr", "scale": 2},
    "file": "w.pth",
    "url": "https://example.org/w.pth",
    "licence": "MIT",
    "input": "[0, 1]",
    "source": "tests",
}


def zoo_with(places, monkeypatch, name="x", **changes):
    """The catalogue with one entry more, from a new file, since a file is read once."""
    file = places / f"zoo-{len(list(places.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump({name: {**ENTRY, **changes}}, allow_unicode=True))
    monkeypatch.setenv("PURIFLOW_ZOO", str(file))
    return Zoo()


NOT_FILES = [
    *("w;touch ran", "$(touch ran)", "w||touch ran||x", "$(>X)", "w||>X||x", "`id`", "w&x"),
    *(
        "{entry}",
        "w}",
        "a b",
        "a\nb",
        "a\tb",
        "w*",
        "w?",
        "[w]",
        "'w'",
        '"w"',
        "w\\x",
        "~w",
        "#w",
        "w!",
    ),
    *(
        "",
        ".",
        "..",
        ".w",
        "-w",
        "--out=x",
        "a/b",
        "../w",
        "/w",
        "w\0",
        "w\x1b[2J",
        "\u2028",
        "\xe4.pth",
    ),
    "w" * 201,
]


@pytest.mark.parametrize("name", NOT_FILES)
def test_a_file_s_name_is_no_shell_code_no_wildcard_and_no_option(places, monkeypatch, name):
    with pytest.raises(UserError, match=r"x\.file: String should match pattern") as caught:
        zoo_with(places, monkeypatch, file=name).known()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["-x", "--help", "X", "a b", "a/b", "a_b", "", "$(id)", "a" * 101])
def test_an_entry_s_name_is_no_option_and_no_path(places, monkeypatch, name):
    with pytest.raises(UserError, match="String should match pattern"):
        zoo_with(places, monkeypatch, name=name).known()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("url", "https://example.org/a b", "match pattern"),
        ("url", "https://example.org/a\r\nX: 1", "match pattern"),
        ("url", "https://example.org/\x1b[2J", "match pattern"),
        ("url", "https://example.org/\xe4", "match pattern"),
        ("url", "file:///etc/passwd", "match pattern"),
        ("url", "ftp://example.org/w", "match pattern"),
        ("url", "https://", "match pattern"),
        ("by_hand", "from\nhere", "match pattern"),
        ("licence", "MIT\x1b[2J", "match pattern"),
        ("source", "\x9b2J", "match pattern"),
        ("sha256", "1234", "match pattern"),
        ("sha256", "", "match pattern"),
        ("sha256", "x" * 64, "match pattern"),
        ("md5", "0123", "match pattern"),
        ("size", 0, "greater than or equal to 1"),
        ("size", "12", "valid integer"),
        ("size", 1.5, "valid integer"),
        ("size", True, "valid integer"),
        ("part", {}, "part names no kind"),
        ("part", {"kind": 3}, "part names no kind"),
        ("part", [], "valid dict"),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named(places, monkeypatch, field, value, why):
    with pytest.raises(UserError, match=rf"zoo-\d+\.yaml: x.*{why}") as caught:
        zoo_with(places, monkeypatch, **{field: value}).known()
    assert len(str(caught.value).splitlines()) == 1


def test_every_official_name_is_one():
    for name, entry in Zoo().known().items():
        assert name == name.strip("-")
        assert set(entry.file) <= {*string.ascii_letters, *string.digits, *"._+-"}


def test_brackets_in_an_entry_are_listed_as_they_are(places, monkeypatch):
    zoo_with(places, monkeypatch, licence="[/red] a [link=x]y")
    ended = puriflow("zoo", "list", cwd=places)
    assert "[/red] a [link=x]y" in ended.stdout
    assert ended.returncode == 0, ended.stderr


def test_a_key_that_is_there_twice_is_named(places, monkeypatch):
    text = yaml.safe_dump({"x": ENTRY}) + yaml.safe_dump({"x": ENTRY})
    (places / "twice.yaml").write_text(text)
    monkeypatch.setenv("PURIFLOW_ZOO", str(places / "twice.yaml"))
    said = r"twice\.yaml: the key 'x' is given twice, in lines 1 and \d+"
    with pytest.raises(UserError, match=said):
        Zoo().known()


def without_a_home(monkeypatch):
    for variable in ("PURIFLOW_CACHE", "XDG_CACHE_HOME", "PURIFLOW_WEIGHTS", "PURIFLOW_ZOO"):
        monkeypatch.delenv(variable, raising=False)

    def nowhere(path):
        return path  # what os.path.expanduser gives for a user that it does not know

    monkeypatch.setattr(os.path, "expanduser", nowhere)


def test_without_a_home_the_cache_is_in_the_working_folder(tmp_path, monkeypatch):
    without_a_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert Zoo().cache_folder == tmp_path / ".cache" / "puriflow"
    assert Zoo().find("resnet50", "w.pth") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Zoo().cache_folder == tmp_path / "xdg" / "puriflow"


@pytest.mark.parametrize("zoo", [{"cache": "~/c"}, {"folders": ("~/w",)}, {"entries": "~/z.yaml"}])
def test_a_home_that_is_not_known_is_one_line(monkeypatch, zoo):
    without_a_home(monkeypatch)
    with pytest.raises(UserError, match=r"^~/.*: no home folder is known; give the path without ~"):
        Zoo(**zoo).ready_file("resnet50")


def test_a_cache_that_is_a_file_is_one_line(own_zoo, places):
    variables, _ = own_zoo
    (places / "cache").write_text("not a folder")
    for command in ("fetch", "verify"):
        ended = puriflow("zoo", command, "tiny-edsr", cwd=places, **variables)
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert (places / "cache").read_text() == "not a folder"


def test_a_folder_that_may_not_be_read_is_one_line(places, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(places), "is_file", refuse)
    with pytest.raises(UserError, match=r"resnet50-0676ba61\.pth: Permission denied"):
        Zoo().ready_file("resnet50")


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
