"""The columns of all CSVs: each is declared once, and the rest follows."""

import csv

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puriflow.errors import UserError
from puriflow.results.columns import CLAIMED, DECLARED, column, read_csv, write_csv


def test_a_column_is_declared_once_and_its_bounds_follow():
    names = [known.name for known in DECLARED]
    assert len(set(names)) == len(names)
    assert column("paper_robust") is column("robust_low") is column("robust")
    assert column("paper_higher").dtype is float  # and not text, as `higher`
    with pytest.raises(UserError, match="unknown column 'robusst': did you mean 'robust'"):
        column("robusst")


def test_claims_speak_of_what_is_measured_of_images_counted_or_timed():
    assert set(CLAIMED) == {
        *("standard", "robust", "gap", "cross_entropy", "macs_g", "params_m", "evaluations"),
        *("content_distance", "mse", "cam_similarity", "correct", "seconds"),
        *("idempotence", "symmetry", "asymmetry", "kept_random", "reaching", "kept", "removed"),
        *("left", "turned", "off_tangent"),
    }


def test_whole_numbers_are_written_as_such(tmp_path):
    rows = [{"n": 3, "method": "1", "mse": 1 / 3}, {"note": ""}]
    frame = write_csv(rows, ["method", "n", "mse", "note"], tmp_path / "c.csv", 4)
    assert (tmp_path / "c.csv").read_text() == "method,n,mse,note\n1,3,0.3333,\n,,,\n"
    assert [str(dtype) for dtype in frame.dtypes[1:3]] == ["Int64", "float64"]


FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "'=1",
    "''-2",
    " =1",
    "\ufeff=1",
    "\uff1d1",
)


def test_no_cell_of_text_is_a_formula_and_each_is_read_as_it_was(tmp_path):
    rows = [{"method": cell, "mse": -0.5, "note": "1 - 2 = -1", "along": -1.5} for cell in FORMULAS]
    names, file = ["method", "mse", "note", "along"], tmp_path / "c.csv"
    table = write_csv(rows, names, file)
    with file.open(newline="") as written:
        cells = list(csv.reader(written))[1:]
    assert [cell for cell, *_ in cells] == [f"'{cell}" for cell in FORMULAS]
    assert {tuple(others) for _, *others in cells} == {("-0.5", "1 - 2 = -1", "-1.5")}
    assert list(table["method"]) == list(FORMULAS)
    read = read_csv(file, names)
    assert list(read["method"]) == list(FORMULAS)
    assert list(read["mse"]) == [-0.5] * len(FORMULAS)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(alphabet="=+-@'\t \uff1da,\"1", min_size=1, max_size=6), min_size=1, max_size=4
    )
)
def test_texts_are_read_as_they_were_written(tmp_path, texts):
    write_csv([{"method": text, "n": 1} for text in texts], ["method", "n"], tmp_path / "c.csv")
    assert list(read_csv(tmp_path / "c.csv", ["method", "n"])["method"]) == texts
    first = [line["method"][0] for line in csv.DictReader((tmp_path / "c.csv").open(newline=""))]
    assert not set(first) & set("=+-@\t")


class FullDisk:
    """A frame whose CSV ends in the middle."""

    def to_csv(self, path, **_):
        path.write_text("method,n\nhal")
        raise OSError(28, "No space left on device", str(path))


def test_a_csv_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "c.csv"
    write_csv([{"method": "old", "n": 1}], ["method", "n"], file)
    monkeypatch.setattr("puriflow.results.columns._texts", lambda *_: FullDisk())
    with pytest.raises(OSError, match="No space left"):
        write_csv([{"method": "new", "n": 2}], ["method", "n"], file)
    assert file.read_text() == "method,n\nold,1\n"
    assert list(tmp_path.iterdir()) == [file]
