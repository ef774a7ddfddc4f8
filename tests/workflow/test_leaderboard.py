"""Every row of the tables as a record, records of others, and tables as LaTeX."""

import json
import subprocess

import pytest

from puriflow.benchmarking.record import Benchmark


def puriflow(project, *arguments):
    command = ["puriflow", *map(str, arguments)]
    ended = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def board(built, tmp_path_factory):
    file = tmp_path_factory.mktemp("board") / "board.json"
    status, said, error = puriflow(built, "results", "--json", file)
    assert status == 0, error
    assert "records" in said
    return json.loads(file.read_text())["records"]


def test_rows_are_records_with_what_made_them(built, board):
    titles = [record["title"] for record in board]
    assert titles == [
        f"tabletiny: {m}" for m in ("undefended", "EDSR", "wavelet", "EDSR, adaptive")
    ]
    for raw in board:
        record = Benchmark.from_json(json.dumps(raw))
        assert record.n == 4
    blind, adaptive = board[1], board[3]
    assert blind["cut"].startswith("pgd-linf4 goes through resnet50, and does not know")
    assert adaptive["cut"].endswith("; one step")
    assert [attack["through"] for attack in adaptive["attacks"]] == [
        "the classifier",
        "the defence",
    ]
    assert list(adaptive["robust"]) == ["average"]
    assert adaptive["n_draws"] == 3
    assert adaptive["attacks"][1]["options"]["n_iter"] == 1
    assert round(adaptive["eps"] * 255, 6) == 4
    images = {record["made_by"]["images"] for record in board}
    assert len(images) == 1  # all of the same data set


def test_a_record_of_others_is_taken_in_if_it_is_of_the_same_images(built, board, tmp_path):
    theirs = {**board[0], "title": "ours is better"}
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(theirs))
    status, said, error = puriflow(built, "results", "--add", file)
    assert (status, said) == (0, "results/leaderboard/theirs.json\n"), error
    out = tmp_path / "board.json"
    puriflow(built, "results", "--json", out)
    titles = [record["title"] for record in json.loads(out.read_text())["records"]]
    assert titles[-1] == "ours is better"
    file.write_text(json.dumps({**theirs, "title": "another"}))
    for change, says in [
        ({"title": "another"}, "is another record: rename"),
        ({"made_by": {**theirs["made_by"], "images": "0" * 64}}, "is of other images or labels"),
        ({"n": 3}, "n is 3, but there are 4 images"),
    ]:
        file.write_text(json.dumps({**theirs, **change}))
        status, said, error = puriflow(built, "results", "--add", file)
        assert status == 2
        assert says in error
        assert len(error.splitlines()) == 1
    (built.folder / "results" / "leaderboard" / "theirs.json").unlink()


def test_a_record_that_a_benchmark_made_stands_beside_the_track_s(built, tmp_path):
    asked = tmp_path / "asked.yaml"
    lines = ("classifier: resnet50", "dataset: imagenet", "attack: pgd-linf4", "out: judged")
    asked.write_text("\n".join(lines))
    status, said, error = puriflow(built, "benchmark", asked)
    assert status == 0, error
    status, said, error = puriflow(built, "results", "--add", "judged/benchmark.json")
    assert (status, said) == (0, "results/leaderboard/benchmark.json\n"), error
    (built.folder / "results" / "leaderboard" / "benchmark.json").unlink()


def test_a_table_is_printed_as_a_paper_prints_it(built):
    status, said, _ = puriflow(built, "results", "--latex", "tabletiny")
    lines = said.splitlines()
    assert status == 0
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert lines[3] == r"\midrule"
    assert lines[5].startswith("EDSR & SR & 4 & ")
    assert lines[5].endswith(r"& 68.73 \\")
    assert lines.count(r"\bottomrule") == 1
    status, _, error = puriflow(built, "results", "--latex", "tabletiyn")
    assert status == 2
    assert "build it first" in error
    assert puriflow(built, "results")[0] == 2
