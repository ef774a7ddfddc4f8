"""Audits as results of the workflow, and by `puriflow audit`."""

import json
import os

import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from puriflow.auditing import audit as auditing
from puriflow.auditing.verdicts import Audit, Check
from puriflow.cli import app, main
from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.results import audited, load_result
from puriflow.results.audits import COLUMNS
from puriflow.results.rows import Threat
from puriflow.stages.images import write_images

AUDIT = {
    "title": "t",
    "source": "tests",
    "dataset": "cifar10-adaptive",
    "classifier": "wrn-28-10",
    "attack": "pgd-linf8",
    "count": 2,
}
KEPT = ("graph", "random-search")
FAILED = Check("graph", "failed", 1, None, "no gradient", "mend it")


@pytest.fixture(scope="module")
def track(repository):
    """The mini track with an attack of one step."""
    file = repository / "config" / "config.yaml"
    raw = {"extends": str(file), "track": "brief", "attacks": {"pgd-linf8": {"n_iter": 1}}}
    from puriflow.config import check_config

    return check_config(raw)


@pytest.fixture(autouse=True)
def _in_the_checkout(repository, monkeypatch):
    """Where the track's weights are, with two checks alone."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(auditing, "CHECKS", {name: auditing.CHECKS[name] for name in KEPT})


def read(tmp_path, **changes):
    file = tmp_path / "audits" / "a.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({**AUDIT, **changes}))
    return load_result(file)


def test_an_audit_is_built_from_the_images_alone(tmp_path, track):
    import torch

    result = read(tmp_path, count=3)
    (folder,) = result.stores(track)
    assert folder == "images/cifar10-adaptive/0-of-1"
    dataset = track.dataset("cifar10-adaptive")
    part = track.part("dataset", "cifar10-adaptive")
    drawn = {"subset": dataset.subset, "subset_seeds": dataset.subset_seeds}
    write_images(tmp_path / "results" / folder, part, **drawn)
    files = result.build(track, "a", tmp_path / "results", torch.device("cpu"))
    assert [file.name for file in files] == ["a.json", "a.csv", "a.png"]
    said = json.loads(files[0].read_text())
    assert [check["name"] for check in said["checks"]] == [*KEPT]
    assert said["images"] == 3
    assert (said["classifier"], said["purifier"]) == ("wrn-16-2-mini", "none")
    again = Audit.from_json(files[0].read_text())
    assert again["graph"].verdict == "passed"
    table = pd.read_csv(files[1], keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert list(table.check) == [*KEPT]
    assert list(table.verdict) == [check.verdict for check in again.checks]
    with Image.open(files[2]) as page:
        assert min(page.size) > 900
    assert result.trigger(track)["seed"] == 0
    assert set(result.trigger(track)["parts"]) == {"attack", "classifier"}


def test_a_chain_that_is_not_served_says_why(tmp_path, track):
    result = read(tmp_path, classifier="pang2022-wrn-28-10")
    assert result.stores(track) == []
    files = result.build(track, "a", tmp_path / "results", None)
    assert "an official checkpoint" in json.loads(files[0].read_text())["note"]
    assert "an official checkpoint" in pd.read_csv(files[1]).note[0]
    assert files[2].is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1}, "count: Input should be greater than or equal to 2"),
        ({"attac": "pgd-linf8"}, "'attac': did you mean 'attack'"),
    ],
)
def test_mistakes_of_a_file_are_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **changes)


def test_both_tracks_know_the_audits_that_are_shipped(repository):
    for name in ("config", "paper"):
        track = load_config(repository / "config" / f"{name}.yaml")
        for file in sorted((repository / "config" / "audits").glob("*.yaml")):
            assert load_result(file).stores(track)


@pytest.mark.parametrize(("checks", "status"), [((), 0), ((FAILED,), 1)])
def test_the_command_says_by_its_status_whether_a_check_failed(
    tmp_path, monkeypatch, checks, status
):
    given = {}

    def of_parts(victim, attack, images, labels, indices, **options):
        given.update(victim=victim, attack=attack, images=images, options=options)
        return Audit("pgd-linf8", 4, 1, {"clean": None, "robust": None}, checks)

    monkeypatch.setattr(auditing, "of_parts", of_parts)
    command = ["audit", "--classifier", "wrn-28-10", "--purifier", "vpsde-t100", "--count", "4"]
    ended = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a.json"), "--seed", "7"])
    assert ended.exit_code == status, ended.output
    assert f"0 passed, {status} failed" in ended.output
    assert list(given["victim"]) == ["purifier", "classifier"]
    assert (given["attack"].name, given["images"].shape) == ("pgd-linf8", (4, 3, 32, 32))
    assert given["options"]["seed"] == 7
    assert len(json.loads((tmp_path / "a.json").read_text())["checks"]) == status


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classifier", "wrn-28-11"], "unknown classifier 'wrn-28-11': did you mean"),
        (["--classifier", "none"], "without a classifier has no logits"),
        (["--classifier", "wrn-28-10", "--attack", "pgd"], "unknown attack 'pgd'"),
        (["--classifier", "wrn-28-10", "--out", os.sep], "is a folder, but must be a file"),
        (
            ["--classifier", "wrn-28-10", "--count", "1"],
            "takes two images or more, but was given 1",
        ),
    ],
)
def test_mistakes_of_the_command_are_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["puriflow", "audit", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "why"), [(None, "No such file.*build it first"), ("{}", "no audit.*build it again")]
)
def test_a_table_without_its_audits_says_so(tmp_path, text, why):
    file = tmp_path / "a.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=f"audit {file}: .*{why}"):
        audited.cells(file, "")


def test_the_audit_is_of_the_attack_that_knows_most(repository):
    track = load_config(repository / "config" / "config.yaml")
    identity, full = ({"attack": f"pgd-eot-linf8{end}"} for end in ("-identity", ""))
    given = (
        full,
        {**full, "victim": "defence", "surrogate": "osd-t145"},
        {**identity, "victim": "defence"},
        {**full, "victim": "defence"},
        {**full, "victim": "defence"},
    )
    threats = [Threat.model_validate(one) for one in given]
    assert [audited.knowing(track, threats[:count]) for count in range(1, 6)] == [0, 1, 2, 3, 3]
