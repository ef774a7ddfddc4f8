"""What all results share: how they are found, what they depend on, and which files they write."""

import json
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from puriflow.config import check_config, load_config
from puriflow.errors import UserError
from puriflow.results import find, finding, judged_results, load_result, names, paper_results
from puriflow.results.claims import claims_about, load_claims
from puriflow.results.finding import class_of
from puriflow.yaml_files import read_yaml

SWEEP = """
title: t
source: s
dataset: d
classifier: c
along: restorer
"""
MANY = [f"r{i}" for i in range(1000)]


@pytest.fixture(scope="module")
def every(repository):
    """All results of the project, by name."""
    config = repository / "config"
    found = chain.from_iterable(names(config).values())
    return {name: load_result(find(name, config)) for name in found}


@pytest.mark.parametrize("track", ["config", "paper"])
def test_what_a_result_depends_on_is_plain_data(repository, every, track):
    config = load_config(repository / "config" / f"{track}.yaml")
    shared = {n: r for n, r in every.items() if getattr(r, "track", None) is None}
    for name, result in shared.items():
        trigger = result.trigger(config)
        assert json.loads(json.dumps(trigger)) == trigger, name
        assert len(set(result.stores(config))) == len(result.stores(config)) > 0, name


def test_no_two_results_write_the_same_file(every):
    files = [path for name, result in every.items() for path in result.outputs(name).values()]
    assert len(set(files)) == len(files)


def test_the_paper_s_results_are_those_that_it_shows(repository):
    config = repository / "config"
    ours = {"attacks", "draws", "initialisation", "ladder", "off-the-shelf", "purifiers"}
    ours |= {"beyond", "table7-extended"}
    assert set(judged_results(config)) - set(paper_results(config)) == ours
    assert {"table1", "table9-top", "figure2"} < set(paper_results(config))


def test_only_what_computes_needs_a_device(every):
    shared = (result for result in every.values() if getattr(result, "features", None) is None)
    computing = {type(result).folder for result in shared if result.computes}
    assert computing == {"audits", "eot", "timings", "figures"}  # all else only for its features
    assert every["solvers-t90"].computes


def test_a_result_is_found_by_its_name(tmp_path):
    for folder in ("tables", "sweeps"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "levels.yaml").touch()
    (tmp_path / "tables" / "table7.yaml").touch()
    assert names(tmp_path)["tables"] == ["levels", "table7"]
    assert find("table7", tmp_path) == tmp_path / "tables" / "table7.yaml"
    with pytest.raises(UserError, match="unknown result 'tabel7': did you mean 'table7'"):
        find("tabel7", tmp_path)
    with pytest.raises(UserError, match="share the name levels"):
        find("levels", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tabels/t.yaml", "", "unknown folder of results 'tabels': did you mean 'tables'"),
        ("tables/t.yaml", None, "tables/t.yaml: No such file"),
        ("figures/t.yaml", "[]", "no kind given; known are attention"),
        ("sweeps/t.yaml", "source: s", "sweeps/t.yaml: title: Field required"),
        ("timings/t.yaml", "{", "timings/t.yaml: while parsing"),
        ("tables/t.yaml", 'title: "a\\n.. raw:: html"', "title: must be one line"),
        ("tables/t.yaml", 'title: "a\\u2028b"', "title: must be one line"),
        ("tables/t.yaml", "title: 3", "title: Input should be a valid string"),
        ("tables/t.yaml", "rows: [{method: 50}]", "rows.0.method: Input should be a valid string"),
        ("tables/t.yaml", "costs: 'yes'", "costs: Input should be a valid boolean"),
        ("timings/t.yaml", "repeats: 3.0", "repeats: Input should be a valid integer"),
        ("timings/t.yaml", "repeats: 1000000000", "repeats: Input should be less than"),
        ("certified/t.yaml", "rows: [{method: m, sigma: 64}]", "sigma: .*must be at most 2"),
        ("certified/t.yaml", "rows: [{method: m, sigma: 0}]", "sigma: .*greater than"),
        ("certified/t.yaml", "radii: [1e999]", "radii|finite"),
        ("sweeps/t.yaml", f"{SWEEP}\nattack: {MANY}\nrestorer: {MANY}", "1000000 combinations"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, file, content, message):
    path = tmp_path / file
    path.parent.mkdir()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_result(path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the modules of results, beside which a test puts others."""
    for file in Path(finding.__file__).parent.rglob("*.py"):
        copy = tmp_path / "results" / file.relative_to(Path(finding.__file__).parent)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(finding, "__file__", str(tmp_path / "results" / "finding.py"))
    finding.classes.cache_clear()
    finding._modules.cache_clear()
    yield tmp_path / "results"
    finding.classes.cache_clear()
    finding._modules.cache_clear()


def test_a_stray_module_stops_none_but_who_asks_for_it(package):
    (package / "._table.py").write_bytes(b"\x00\x05\x16\x07")
    (package / ".#sweep.py").symlink_to("me@host.1:2")
    (package / "broken.py").write_text("class New(Result:\n")
    assert class_of("tables").folder == "tables"
    with pytest.raises(
        UserError, match=r"unknown folder .*'new'.*broken\.py cannot be read"
    ) as said:
        class_of("new")
    assert len(str(said.value).splitlines()) == 1
    with pytest.raises(UserError, match=r"unknown result 'new'.*broken\.py cannot be read"):
        find("new", package)


def test_images_that_a_figure_shows_are_known_before_anything_is_computed(repository, every):
    raw = read_yaml(repository / "config" / "config.yaml", "config")
    raw["datasets"]["imagenet"] |= {"subset": 1}
    track = check_config(raw)
    for name in ("figure2", "figure3"):
        with pytest.raises(
            UserError, match=r"shows image 1, .* but 1 of data set imagenet are there"
        ):
            every[name].stores(track)
    raw["datasets"]["imagenet"] |= {"subset": 4, "shards": 2}
    track = check_config(raw)
    assert every["figure2"].stores(track)
    raw["features"][every["figure3"].features]["layers"] = ["stage1", "stage2"]
    with pytest.raises(UserError, match="a figure of maps takes one layer"):
        every["figure3"].stores(check_config(raw))


def test_every_claim_names_a_line_that_its_result_has(repository, tmp_path):
    file = repository / "config" / "claims.yaml"
    found = [claims_about(file, name) for name in judged_results(repository / "config")]
    assert sum(len(own.claims) for own in found) == len(load_claims(file).claims) > 10
    shutil.copytree(repository / "config", tmp_path / "config")
    text = file.read_text().replace("higher: ESRGAN x2", "higher: ESRGAN x3", 1)
    assert text != file.read_text()
    (tmp_path / "config" / "claims.yaml").write_text(text)
    with pytest.raises(UserError, match=r"unknown line of table7 .*'ESRGAN x3': did you mean"):
        claims_about(tmp_path / "config" / "claims.yaml", "table7")


def test_reading_results_imports_nothing_heavy(repository):
    code = (
        "import sys; from puriflow.results import find, load_result, names, results_folder\n"
        "folder = results_folder()\n"
        "for listed in names(folder).values():\n"
        "    for name in listed: load_result(find(name, folder))\n"
        "from puriflow.results.claims import claims_about\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'scipy.stats', 'zarr', 'xarray'}\n"
        "sys.exit(heavy & {*sys.modules} or None)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
