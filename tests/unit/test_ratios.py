"""What the benchmarks share: turns, medians and ratios by a clock that is planted, and the JSON."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import ratios
from ratios import Row, answer_of, in_turns, of_children, peak, report, table, versions


class Planted:
    """A clock that goes on only while a way runs, by what each call of it costs."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def way(self, name, *costs):
        left = list(costs)

        def run():
            self.calls.append(name)
            self.now += left.pop(0)

        return run


def test_ways_take_turns_and_their_median_counts():
    clock = Planted()
    ways = {"ours": clock.way("ours", 100, 1, 9, 2), "theirs": clock.way("theirs", 0, 4, 4, 40)}
    assert in_turns(ways, 3, clock) == {"ours": 2, "theirs": 4}  # neither the first nor the mean
    assert len(clock.calls) == 8
    assert all(a != b for a, b in pairwise(clock.calls))


@pytest.mark.parametrize(("ours", "theirs", "ratio"), [(2, 4, 0.5), (3, 3, 1), (5, 4, 1.25)])
def test_a_ratio_above_one_says_that_ours_costs_more(ours, theirs, ratio):
    row = Row("what", ours, theirs)
    assert row.ratio == ratio
    assert table([row]).splitlines()[-1].endswith(f"{ratio:.2f}")


def test_a_report_has_rows_machine_and_versions(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ratios, "MEASURED", tmp_path / "measured")
    report("somewhere/against_nobody.py", [Row("what", 1, 2, "MiB")], ["no-such-package"], n=3)
    said = json.loads((tmp_path / "measured" / "against_nobody.json").read_text())
    assert said["rows"] == [{"what": "what", "ours": 1, "theirs": 2, "unit": "MiB", "ratio": 0.5}]
    assert said["n"] == 3
    assert said["versions"].keys() >= {"python", "puriflow", "torch", "zarr"}
    assert "no-such-package" not in said["versions"]
    assert said["machine"]["processor"]
    assert "0.50" in capsys.readouterr().out


def test_a_process_of_its_own_answers_has_its_own_peak_and_its_seconds_count(tmp_path):
    ballast = bytearray(256 * 2**20)  # of this process
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    script = tmp_path / "script.py"
    folder = str(Path(ratios.__file__).parent)
    script.write_text(
        f"import json, sys; sys.path.insert(0, {folder!r}); from ratios import peak\n"
        "print('something else')\n"
        "print(json.dumps([sys.argv[1:], peak()]))\n"
    )
    before = of_children()
    arguments, own = answer_of(str(script), "a", 1)
    assert arguments == ["a", "1"]
    assert 0 < own < 256 < peak()
    assert of_children() > before


def test_versions_are_those_of_distributions():
    assert versions(["torchattacks", "no-such-package"]).keys() >= {"torchattacks", "numpy"}


def test_every_script_can_be_imported_without_the_libraries_it_compares(repository):
    """In a process of its own: some change settings. Nothing is measured before `main`."""
    folder = repository / "benchmarks"
    names = sorted(file.stem for file in folder.glob("*.py"))
    hidden = (
        "import sys; sys.modules.update(dict.fromkeys(('torchsde', 'adv_lib', 'pyautoattack')))"
    )
    code = f"{hidden}\nimport {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    described = {name: (folder / f"{name}.py").read_text() for name in names}
    assert all(text.startswith('"""') for text in described.values())


def test_make_bench_runs_every_script_that_reports(repository):
    made = (repository / "Makefile").read_text()
    for file in (repository / "benchmarks").glob("*.py"):
        if "from ratios import" in file.read_text():
            assert file.stem in made, file.name
