"""The columns of all CSVs: each is declared once, and the rest follows."""

import pytest

from puriflow.errors import UserError
from puriflow.results.columns import CLAIMED, DECLARED, column, write_csv


def test_a_column_is_declared_once_and_its_bounds_follow():
    names = [known.name for known in DECLARED]
    assert len(set(names)) == len(names)
    assert column("paper_robust") is column("robust_low") is column("robust")
    assert column("paper_higher").dtype is float  # and not text, as `higher`
    with pytest.raises(UserError, match="unknown column 'robusst': did you mean 'robust'"):
        column("robusst")


def test_claims_speak_of_what_is_measured_of_images_counted_or_timed():
    assert set(CLAIMED) == {
        *("standard", "robust", "gap", "cross_entropy", "macs_g", "params_m"),
        *("content_distance", "mse", "cam_similarity", "correct", "seconds"),
    }


def test_whole_numbers_are_written_as_such(tmp_path):
    rows = [{"n": 3, "method": "1", "mse": 1 / 3}, {"note": ""}]
    frame = write_csv(rows, ["method", "n", "mse", "note"], tmp_path / "c.csv", 4)
    assert (tmp_path / "c.csv").read_text() == "method,n,mse,note\n1,3,0.3333,\n,,,\n"
    assert [str(dtype) for dtype in frame.dtypes[1:3]] == ["Int64", "float64"]
