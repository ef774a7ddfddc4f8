"""Curves of certified accuracy from stores with known certificates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from placed import put

from puriflow.config import load_config
from puriflow.errors import UserError
from puriflow.lineage import Place
from puriflow.metrics.accuracy import wilson
from puriflow.metrics.certified import ABSTAIN
from puriflow.results import load_result
from puriflow.results.certified import COLUMNS
from puriflow.results.measures import Stores

CURVES = {
    "title": "t",
    "source": "tests",
    "dataset": "cifar10",
    "classifier": "wrn-28-10",
    "radii": [0, 0.2, 0.5],
    "rows": [
        {"method": "alone", "sigma": 0.25},
        {"method": "EDM", "sigma": 0.25, "denoiser": "edm", "note": "said so"},
        {"method": "DeiT-S", "sigma": 0.25, "classifier": "bai2021-deit-s"},
    ],
}
DRAWS = {"n0": 20, "n": 200, "alpha": 0.001}


@pytest.fixture(scope="module")
def track(repository):
    return load_config(repository / "config" / "config.yaml")


def read(tmp_path, **changes):
    file = tmp_path / "certified" / "curves.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({**CURVES, **changes}))
    return load_result(file)


def store(track, results, folder, prediction, radius, answer):
    """A store of `certify` for four images of class 0 to 3."""
    labels = np.arange(4)
    arrays = {"prediction": np.array(prediction), "radius": np.array(radius)}
    arrays["answer"] = np.array(answer)
    put(results, folder, track, arrays, labels=labels, indices=labels, name="certified", **DRAWS)


@pytest.fixture
def curves(tmp_path, track):
    """The curves, with their stores below `tmp_path`."""
    curves = read(tmp_path)
    alone, denoised = curves.stores(track)
    none = [ABSTAIN] * 4
    store(track, tmp_path, alone, none, [0.0] * 4, [0, 0, 0, ABSTAIN])
    store(track, tmp_path, denoised, [0, 1, 2, ABSTAIN], [0.2, 0.4, 0.1, 0.0], [0, 1, 2, 3])
    return curves


def lines_of(curves, track, results):
    return [list(curves.lines(track, row, Stores(track, results))) for row in curves.rows]


def test_a_store_is_named_by_its_chain_and_sigma(curves, track):
    assert curves.stores(track) == [
        "certify/cifar10/none/none/none/wrn-28-10/0.25/0-of-1",
        "certify/cifar10/none/edm/none/wrn-28-10/0.25/0-of-1",
    ]


def test_no_two_sigmas_share_a_store(tmp_path, track):
    sigmas = [0.1234567, 0.12345671, 0.25, 1, 1.0, 1e-4]
    found = read(tmp_path, rows=[{"method": "m", "sigma": s} for s in sigmas])
    places = [Place.of(Path(folder)) for row in found.rows for folder in found.reads(track, row)]
    names = [place.names["sigma"] for place in places]
    assert names == ["0.1234567", "0.12345671", "0.25", "1", "1", "0.0001"]
    assert [place.numbers["sigma"] for place in places] == sigmas


def test_the_numbers_are_those_of_the_stores(curves, track, tmp_path):
    alone, denoised, _ = lines_of(curves, track, tmp_path)
    assert [line["radius"] for line in denoised] == [0, 0.2, 0.5]
    assert [line["certified_accuracy"] for line in denoised] == [75.0, 50.0, 0.0]
    low, high = wilson(2, 4)
    assert denoised[1]["low"] == round(100 * low, 2)
    assert denoised[1]["high"] == round(100 * high, 2)
    first = denoised[0]
    assert (first["standard"], first["abstained"], first["n"]) == (100.0, 25.0, 4)
    assert (first["n0"], first["draws"], first["alpha"]) == (20, 200, 0.001)
    assert first["classifier"] == "wrn-16-2-mini"
    assert first["denoiser"] == "edm"
    assert first["note"] == "said so"
    first = alone[0]
    assert (first["certified_accuracy"], first["standard"], first["abstained"]) == (0, 25, 100)


def test_a_row_that_the_track_cannot_serve_says_why(curves, track, tmp_path):
    *_, (line,) = lines_of(curves, track, tmp_path)
    assert "radius" not in line
    assert line["note"].startswith("classifier bai2021-deit-s: an official checkpoint")


def test_the_file_has_all_columns_and_the_picture_is_drawn(curves, track, tmp_path):
    csv, picture = curves.build(track, "c", tmp_path, None)
    assert (csv, picture) == tuple(tmp_path / "certified" / f"c.{end}" for end in ("csv", "png"))
    table = pd.read_csv(csv, keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert list(table.draws) == ["200"] * 6 + [""]
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 400


def test_nothing_to_draw_is_an_empty_picture(tmp_path, track):
    _, picture = read(tmp_path, classifier="bai2021-deit-s").build(track, "c", tmp_path, None)
    assert picture.is_file()


@pytest.mark.parametrize("name", ["config", "paper"])
def test_both_tracks_serve_the_curves_that_are_shipped(repository, name):
    track = load_config(repository / "config" / f"{name}.yaml")
    curves = load_result(repository / "config" / "certified" / "cifar10.yaml")
    assert curves.stores(track)
    assert len(curves.rows) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"method": "m", "sigma": 0}]}, "rows.0.sigma: Input should be greater than"),
        ({"rows": [{"method": "m", "sigma": 9e-5}]}, "greater than or equal to 0.0001"),  # 9e-05
        ({"rows": [{"method": "m", "sigma": 64}]}, "sigma: must be at most 2, of colours on .* 64"),
        ({"rows": []}, "rows"),
        ({"radii": [-0.1]}, "radii.0: Input should be greater than or equal to 0"),
        ({"raddi": [0]}, "'raddi': did you mean 'radii'"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_role_is_named(tmp_path, track):
    rows = [{"method": "m", "sigma": 0.1, "denoiser": "emd"}]
    with pytest.raises(UserError, match="unknown denoiser 'emd': did you mean 'edm'"):
        read(tmp_path, rows=rows).stores(track)
