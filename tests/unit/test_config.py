import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from puriflow.config import check_config, load_config, read_track, write_config
from puriflow.config.schema import schema
from puriflow.errors import UserError
from puriflow.registry import kinds
from puriflow.renames import KINDS_RENAMED, OPTIONS_RENAMED


@pytest.fixture(scope="module")
def raw(repository):
    return yaml.safe_load((repository / "config" / "config.yaml").read_text())


def changed(raw, path, value):
    """A copy of the configuration with one value put at a dotted path."""
    made = copy.deepcopy(raw)
    *parents, last = path.split(".")
    place = made
    for parent in parents:
        place = place[parent]
    place[last] = value
    return made


def test_the_default_track_is_sound(repository):
    config = load_config(repository / "config" / "config.yaml")
    assert config.track == "mini"
    part = config.part("purifier", "vpsde-t90")
    assert (part.kind, part.network.kind) == ("vpsde", "adm")
    assert part.modules() == ["puriflow.purifiers.vpsde", "puriflow.networks.adm"]
    assert [weights.name for weights in part.files()] == ["resources/adm.safetensors"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("restorers.esrgan-x2.kind", "esrgn", "unknown kind.*esrgan-x2.*did you mean 'esrgan'"),
        ("restorers.esrgan-x2.num_feats", 3, "option of esrgan.*did you mean 'num_feat'"),
        ("restorers.esrgan-x2", {"kind": "esrgan"}, "esrgan needs weights"),
        ("restorers.esrgan-x2", {"scale": 2}, "give a kind, or a zoo entry, or"),
        ("restorers.esrgan-x2.weights", None, "esrgan-x2.weights is empty"),
        ("restorers.esrgan-x2", {"zoo": "real-esrgan"}, "zoo entry.*did you mean 'real-esrgan-x"),
        ("restorers.esrgan-x2", {"zoo": "real-esrgan-x2", "feature": 3}, "option of esrgan"),
        ("restorers.none", {"kind": "bicubic"}, "reserved"),
        ("purifiers.vpsde-t90.network", "amd", "unknown network 'amd': did you mean 'adm'"),
        ("purifiers.vpsde-t90.network", {"kind": "adm"}, "the name of an entry of `networks`"),
        ("purifiers.vpsde-t90.network", None, "vpsde needs network"),
        ("purifiers.contrastive.classifier", None, "contrastive needs classifier"),
        ("purifiers.contrastive.classifier", "wrn", "unknown classifier 'wrn'.*wrn-28-10"),
        ("purifiers.contrastive.classifier", {"a": 1}, "the name of an entry of `classifiers`"),
        ("track", "my track", "track: String should match pattern"),
        ("track", "a/b", "track: String should match pattern"),
        ("restorer", {}, "did you mean 'restorers'"),
        ("seed", -1, "seed"),
        ("datasets.imagenet.shards", 0, "datasets.imagenet.shards"),
        ("training.restorers.edsr", {}, "did you mean 'edsr-x2'"),
        ("restorers.ESRGAN", {"kind": "bicubic"}, "ESRGAN"),
        ("seed", "1", "seed: Input should be a valid integer"),
        ("seed", 1.0, "seed: Input should be a valid integer"),
        ("seed", True, "seed: Input should be a valid integer"),
        ("seed", 2**32, "seed: Input should be less than"),
        ("track", "..", "track: String should match pattern"),
        ("track", "a" * 101, "track: String should have at most 100"),
        ("extends", ["a"], r"extends is \['a'\]; give the name of one file"),
        ("datasets.imagenet.shards", 10**8, "datasets.imagenet.shards: Input should be less"),
        ("datasets.imagenet.subset", 10**7, "datasets.imagenet.subset: Input should be less"),
        ("datasets.imagenet.subset_seed", -1, "subset_seed.*greater than or equal to 0"),
        ("datasets.imagenet.subset_seed", [], "datasets.imagenet.subset_seed"),
        (
            "datasets.imagenet",
            {"kind": "cifar10", "root": "r", "subset": 2, "shards": 3},
            "3 shards",
        ),
        ("evaluations.e", {"n_draws": 10**9}, "evaluations.e.n_draws: Input should be less"),
        ("certification", {"alpha": float("nan")}, "certification.alpha"),
        ("certification", {"n": 10**12}, "certification.n: Input should be less"),
        ("training.restorers.edsr-x2", {"start": ["a"]}, "start is .*give a name"),
        ("restorers.edsr-x2.note", "a\n.. raw:: html", "edsr-x2.note: must be one line"),
        ("restorers.edsr-x2.served_by", "a\tb", "edsr-x2.served_by: must be one line"),
        ("restorers", [], "restorers: Input should be"),
        ("restorers.edsr-x2", Path("a"), "not JSON serializable"),
    ],
)
def test_mistakes_are_named_in_one_line(raw, path, value, message):
    with pytest.raises(UserError, match=message) as caught:
        check_config(changed(raw, path, value))
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match=r"broken\.yaml"):
        load_config(broken)


def test_an_unavailable_role_is_not_built(repository):
    config = load_config(repository / "config" / "config.yaml")
    name = "bai2021-deit-s"
    assert "photographs are too few" in config.entry("classifier", name).unavailable
    with pytest.raises(UserError, match=f"{name} is unavailable on track mini: an official"):
        config.part("classifier", name)
    raw = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    without = check_config(changed(raw, "networks.adm", {"unavailable": "not trained"}))
    assert without.why_unavailable("purifier", "vpsde-t90") == "not trained"


def test_the_schema_for_editors_is_that_of_the_models(repository):
    written = (repository / "workflow" / "schemas" / "config.schema.json").read_text()
    assert written == schema(), (
        "python -m puriflow.config.schema > workflow/schemas/config.schema.json"
    )


def test_checking_a_configuration_imports_no_torch(repository):
    code = (
        "import sys; from puriflow.config import load_config; load_config('config/config.yaml');"
        "import puriflow.results, puriflow.provenance, puriflow.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_the_command_line_ends_with_one_line_and_status_2(repository, tmp_path):
    command = [
        "puriflow",
        "stage",
        "restore",
        "nowhere",
        "--out",
        str(tmp_path),
        "--restorer",
        "esrgan",
    ]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "puriflow: error: store nowhere does not exist"


def test_a_track_extends_another_entry_by_entry(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(raw))
    own = {
        "extends": "mini.yaml",
        "track": "mine",
        "seed": 3,
        "restorers": {"edsr-x2": {"kind": "bicubic"}, "new": {"kind": "tvm"}},
    }
    config = check_config(own)
    assert (config.track, config.seed) == ("mine", 3)
    assert config.part("restorer", "edsr-x2").entry() == {"kind": "bicubic"}
    assert config.part("restorer", "new").kind == "tvm"
    assert config.part("restorer", "wavelet").kind == "wavelet"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    changed_in_part = {"datasets": {"imagenet": {"subset": 1}}, "training": {"held_out": 3}}
    config = check_config(own | changed_in_part)
    assert config.dataset("imagenet").kind == check_config(raw).dataset("imagenet").kind
    assert (config.dataset("imagenet").subset, config.training.held_out) == (1, 3)
    assert config.training.restorers == check_config(raw).training.restorers
    deeper = check_config({"extends": "mine.yaml", "seed": 4})
    assert (deeper.track, deeper.seed) == ("mine", 4)
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        check_config({"extends": "nowhere.yaml"})


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("a.yaml", "a.yaml", "config a.yaml extends itself"),
        ("../{folder}/./a.yaml", "a.yaml", "config ../{folder}/./a.yaml extends itself"),
        ("link.yaml", "a.yaml", "config link.yaml extends itself"),
        ("b.yaml", "a.yaml", "config a.yaml extends itself, by way of b.yaml"),
        ("b.yaml", "link.yaml", "config link.yaml extends itself, by way of b.yaml"),
        ("b.yaml", "b.yaml", "config b.yaml extends itself"),
    ],
)
def test_a_track_that_extends_itself_is_refused(tmp_path, monkeypatch, a, b, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(f"extends: {a.format(folder=tmp_path.name)}")
    (tmp_path / "b.yaml").write_text(f"extends: {b}")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    with pytest.raises(UserError) as caught:
        read_track(["a.yaml"])
    assert str(caught.value) == said.format(folder=tmp_path.name)


def test_a_track_is_written_once_by_its_content(raw, tmp_path):
    file = write_config(raw, tmp_path / "tracks")
    assert file.name.startswith("mini-")
    assert load_config(file) == check_config(raw)
    before = file.stat().st_mtime_ns
    assert write_config(copy.deepcopy(raw), tmp_path / "tracks") == file
    assert file.stat().st_mtime_ns == before
    other = write_config(changed(raw, "seed", 1), tmp_path / "tracks")
    assert other != file
    assert load_config(other).seed == 1
    assert len(list((tmp_path / "tracks").iterdir())) == 2  # and no temporary file
    damaged = file.read_bytes().replace(b"seed: 0", b"seed: 1")
    file.write_bytes(damaged)
    assert write_config(raw, tmp_path / "tracks") == file
    assert file.read_bytes() != damaged
    assert load_config(file) == check_config(raw)


def test_loading_a_track_changes_nothing_of_the_process(raw, monkeypatch):
    for variable in ("PURIFLOW_CACHE", "PURIFLOW_WEIGHTS", "PURIFLOW_ZOO"):
        monkeypatch.delenv(variable, raising=False)
    before = dict(os.environ)
    first = check_config(raw | {"zoo": {"cache": "first"}})
    second = check_config(raw | {"zoo": {"cache": "second"}})
    assert dict(os.environ) == before
    assert [c.zoo.cache_folder.name for c in (first, second)] == ["first", "second"]
    monkeypatch.setenv("PURIFLOW_CACHE", "mine")
    assert second.zoo.cache_folder.name == "mine"


@pytest.mark.parametrize(
    ("command", "new"),
    [("restore", "stage restore"), ("table", "result config/tables/NAME.yaml")],
)
def test_a_command_of_before_is_answered_by_its_new_name(command, new):
    ended = subprocess.run(["puriflow", command, "x"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.strip() == f"puriflow: error: `puriflow {command}` is now `puriflow {new}`"


def test_every_new_name_is_known():
    for section, by_kind in OPTIONS_RENAMED.items():
        for kind, renamed in by_kind.items():
            options = kinds(section)[kind].options
            assert set(renamed.values()) <= set(options), (section, kind)
            assert not set(renamed) & set(options), (section, kind)
    for section, renamed in KINDS_RENAMED.items():
        assert set(renamed.values()) <= set(kinds(section))


@pytest.mark.parametrize("key", [None, 5, True, 1.5, (1,)])
@pytest.mark.parametrize("place", [(), ("restorers",), ("training", "networks"), ("datasets", "a")])
def test_a_key_that_is_no_text_is_refused(repository, place, key):
    """JSON would make of None the text "null", and so a part of that name."""
    raw = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    inner = raw
    for name in place:
        inner = inner.setdefault(name, {})
    inner[key] = {"kind": "bicubic"}
    with pytest.raises(UserError, match=r"the key .* is no text|keys must be str"):
        check_config(raw)


def test_a_name_that_no_file_can_have_is_one_line():
    with pytest.raises(UserError, match="no name of a file"):
        check_config({"extends": "a\0b"})
