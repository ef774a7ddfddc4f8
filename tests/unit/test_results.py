"""What all results share: how they are found, what they depend on, and which files they write."""

import json
import subprocess
import sys
from itertools import chain

import pytest

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.results import find, judged_results, load_result, names, paper_results
from puriflow.results.finding import class_of


@pytest.fixture(scope="module")
def every(repository):
    """All results of the project, by name."""
    config = repository / "config"
    found = chain.from_iterable(names(config).values())
    return {name: load_result(find(name, config)) for name in found}


@pytest.mark.parametrize("track", ["config", "paper"])
def test_what_a_result_depends_on_is_plain_data(repository, every, track):
    config = load_config(repository / "config" / f"{track}.yaml")
    for name, result in every.items():
        trigger = result.trigger(config)
        assert json.loads(json.dumps(trigger)) == trigger, name
        assert len(set(result.stores(config))) == len(result.stores(config)) > 0, name


def test_no_two_results_write_the_same_file(every):
    files = [path for name, result in every.items() for path in result.outputs(name).values()]
    assert len(set(files)) == len(files)


def test_the_paper_s_results_are_those_that_it_shows(repository):
    config = repository / "config"
    ours = {"attacks", "draws", "initialisation", "ladder", "purifiers"}
    assert set(judged_results(config)) - set(paper_results(config)) == ours
    assert {"table1", "table9-top", "figure2"} < set(paper_results(config))


def test_only_what_computes_needs_a_device():
    computing = {"timings": True, "tables": False, "sweeps": False, "certified": False}
    assert {folder: class_of(folder).computes for folder in computing} == computing


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


def test_reading_results_imports_nothing_heavy(repository):
    code = (
        "import sys; from puriflow.results import find, load_result, names\n"
        "for listed in names().values():\n"
        "    for name in listed: load_result(find(name))\n"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)
