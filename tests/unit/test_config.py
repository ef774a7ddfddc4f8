import copy
import subprocess
import sys

import pytest
import yaml

from puriflow.config import check_config, load_config, schema
from puriflow.errors import UserError


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
    network = config.spec("purifiers", "vpsde-t90")["network"]
    assert network["kind"] == "adm"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("restorers.esrgan-x2.kind", "esrgn", "unknown kind.*esrgan-x2.*did you mean 'esrgan'"),
        ("restorers.esrgan-x2.feature", 3, "option of esrgan.*did you mean 'features'"),
        ("restorers.esrgan-x2", {"kind": "esrgan"}, "esrgan needs weights"),
        ("restorers.esrgan-x2", {"scale": 2}, "give a kind, or a zoo entry, or"),
        ("restorers.esrgan-x2.weights", None, "esrgan-x2.weights is empty"),
        ("restorers.esrgan-x2", {"zoo": "real-esrgan"}, "zoo entry.*did you mean 'real-esrgan-x"),
        ("restorers.esrgan-x2", {"zoo": "real-esrgan-x2", "feature": 3}, "option of esrgan"),
        ("restorers.none", {"kind": "bicubic"}, "reserved"),
        ("purifiers.vpsde-t90.network", "amd", "unknown network 'amd': did you mean 'adm'"),
        ("restorer", {}, "did you mean 'restorers'"),
        ("seed", -1, "seed"),
        ("datasets.imagenet.shards", 0, "datasets.imagenet.shards"),
        ("training.restorers.edsr", {}, "did you mean 'edsr-x2'"),
        ("restorers.ESRGAN", {"kind": "bicubic"}, "ESRGAN"),
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
    assert "DeiT-S" in config.role("classifiers", "deit-s").unavailable
    with pytest.raises(UserError, match=r"deit-s is unavailable on track mini: no offline"):
        config.spec("classifiers", "deit-s")
    raw = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    without = check_config(changed(raw, "networks.adm", {"unavailable": "not trained"}))
    assert without.why_unavailable("purifiers", "vpsde-t90") == "not trained"


def test_the_schema_for_editors_is_that_of_the_models(repository):
    written = (repository / "workflow" / "schemas" / "config.schema.json").read_text()
    assert written == schema(), "python -m puriflow.config > workflow/schemas/config.schema.json"


def test_checking_a_configuration_imports_no_torch(repository):
    code = (
        "import sys; from puriflow.config import load_config; load_config('config/config.yaml');"
        "import puriflow.results.table, puriflow.provenance, puriflow.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_the_command_line_ends_with_one_line_and_status_2(repository, tmp_path):
    command = ["puriflow", "restore", "nowhere", "--out", str(tmp_path), "--restorer", "esrgan"]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "puriflow: error: store nowhere does not exist"
